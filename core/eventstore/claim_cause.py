"""Find the event that made a claim, and link spans to the ADD that caused it.

Two small reads find the event in a log of any length. One transaction writes the claim, the event's
segment and the writer's head. So at the claim's revision the head contains the segment's number.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Final

from core.domain.events import Cause, Release
from core.domain.evolution import RevisedClaim
from core.domain.model import Claim
from core.errors import Compacted, OrbweaverError
from core.eventstore.codec import CLAIM_CODEC, HEAD_CODEC, decode_segment
from core.eventstore.keys import Keys
from core.eventstore.kv import Get, KeyValueStore
from core.process.tracing import Span

CLAIMED_BY: Final = "claimed-by"

LINK_S_MAX: Final = 0.5


async def cause_of(store: KeyValueStore, keys: Keys, held: RevisedClaim) -> Cause | None:
    """The cause of the claim's event; None if etcd no longer has the event.

    Raises StoreUnavailable, LogCorrupt.
    """
    writer, _, _ = held.claim.event.rsplit(".", 2)  # an event id is <writer>.<epoch>.<count>
    at = held.revision
    try:
        heads = await store.read([Get(keys.head(writer))], revision=at)
        for head in heads.ranges[0].kvs:
            path = keys.log(writer, HEAD_CODEC.decode(head.value).seq)
            for kv in (await store.read([Get(path)], revision=at)).ranges[0].kvs:
                for recorded in decode_segment(kv.value, writer=writer, position=kv.mod_revision):
                    if recorded.event_id == held.claim.event:
                        return recorded.cause
    except Compacted:
        pass
    return None


def link_attributes(claim: Claim) -> dict[str, str]:
    """Describe the ADD that made the claim."""
    return {
        "ipam.link": CLAIMED_BY,
        "ipam.event.id": claim.event,
        "ipam.pool.name": claim.pool,
        "k8s.namespace.name": claim.namespace,
        "k8s.pod.name": claim.pod,
    }


async def link_to_claim(span: Span, store: KeyValueStore, keys: Keys, release: Release) -> None:
    """Link a release to the ADD that made the claim, if etcd answers within ``LINK_S_MAX``."""
    at = release.claim_revision
    with suppress(TimeoutError, OrbweaverError):
        async with asyncio.timeout(LINK_S_MAX):
            read = await store.read([Get(keys.ip_of(release.address))], revision=at)
            for kv in read.ranges[0].kvs:
                claim = CLAIM_CODEC.decode(kv.value)
                cause = await cause_of(store, keys, RevisedClaim(claim, at))
                if cause is not None and cause.traceparent:
                    span.link(cause.traceparent, link_attributes(claim))

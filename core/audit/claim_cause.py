"""The cause of a claim: that of the event which made it, found from the claim alone.

A claim has the id of its event, and its revision is that of the event's segment; the writer's head
as of that revision has the number of the segment. Two small reads, for a log of any length.
"""

from __future__ import annotations

from core.domain.events import Cause
from core.domain.evolution import RevisedClaim
from core.errors import Compacted
from core.eventstore.codec import HEAD, decode_segment
from core.eventstore.keys import Keys
from core.eventstore.kv import Get, KeyValueStore


async def cause_of(store: KeyValueStore, keys: Keys, held: RevisedClaim) -> Cause | None:
    """Its cause; None when that revision is compacted. Raises StoreUnavailable, LogCorrupt."""
    writer = held.claim.event.rpartition(".")[0].rpartition(".")[0]
    at = held.revision
    try:
        heads = await store.read([Get(keys.head(writer))], revision=at)
        for head in heads.ranges[0].kvs:
            path = keys.log(writer, HEAD.decode(head.value).seq)
            for kv in (await store.read([Get(path)], revision=at)).ranges[0].kvs:
                for one in decode_segment(kv.value, writer=writer, position=kv.mod_revision):
                    if one.event_id == held.claim.event:
                        return one.cause
    except Compacted:
        pass
    return None

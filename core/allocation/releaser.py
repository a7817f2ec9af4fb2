"""The release of addresses: fenced, repeatable, never somebody else's loss (I3, I7).

Every release reads the endpoint and its claims, decides, and commits under guards that name exactly
what was read. Of what this process has claimed itself it knows both without a read
(``core.allocation.endpoint_claims``). After a lost race it reads again; a claim that is gone needs
no release, which is success.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from core.allocation.cooldown import CoolDown
from core.allocation.endpoint_claims import EndpointClaims, KnownEndpoint
from core.allocation.proposals import StoredEndpoint, endpoint_changed, release_proposal
from core.domain.claims.claim_decisions import ReleaseDecision
from core.domain.events import AddressesReleased, Cause, Release, ReleaseReason
from core.domain.evolution import EndpointKey
from core.domain.model import Endpoint, Nic
from core.eventstore.batch import Lost
from core.eventstore.codec import CLAIM, EventDraft
from core.eventstore.keys import Keys
from core.eventstore.kv import Get, KeyValueStore, RangeResult
from core.eventstore.retry_policies import racing
from core.eventstore.writer import Writer


class ReleaseOrder(NamedTuple):
    """Why addresses are given up and what proves it (I6)."""

    reason: ReleaseReason
    evidence: str
    cause: Cause
    keep: tuple[Nic, ...] = ()


class Released(NamedTuple):
    """What a release did; without addresses there was nothing (left) to do, and ``why`` tells."""

    addresses: tuple[str, ...]
    why: str
    revision: int = 0


def releases_of(
    addresses: Sequence[str], found: Sequence[RangeResult], key: EndpointKey
) -> tuple[Release, ...]:
    """The claims that were found of these addresses, as far as they belong to the endpoint."""
    releases = []
    for address, answer in zip(addresses, found, strict=True):
        for kv in answer.kvs:
            claim = CLAIM.decode(kv.value)
            if (claim.namespace, claim.pod) == key:
                releases.append(Release(address, claim.pool, claim.holder, kv.mod_revision))
    return tuple(releases)


class Releaser:
    """Releases endpoints."""

    def __init__(
        self, store: KeyValueStore, keys: Keys, writer: Writer, cooldown: CoolDown
    ) -> None:
        self._store = store
        self._keys = keys
        self._writer = writer
        self._cooldown = cooldown
        self.own = EndpointClaims()
        self.on_free: Callable[[Release], None] | None = None
        """Called for each address that this process has released and that does not rest."""

    async def release(
        self,
        key: EndpointKey,
        decide: Callable[[Endpoint], ReleaseDecision],
        order: ReleaseOrder,
    ) -> Released:
        """Release the endpoint if ``decide`` says so about the one that is there.

        Raises StoreUnavailable, OutcomeUnknown, LostRace (after the bounded time of ``racing``).
        """
        return await racing()(self._once, key, decide, order)

    async def fences(
        self, pairs: Sequence[tuple[str, str]], key: EndpointKey
    ) -> tuple[Release, ...]:
        """For (address, pool) pairs of an endpoint: the claims to end, each with its revision.

        An address whose claim is gone or belongs to another endpoint is left alone.
        """
        gets = [Get(self._keys.ip_of(address)) for address, _ in pairs]
        if not gets:
            return ()
        result = await self._store.read(gets)
        return releases_of([address for address, _ in pairs], result.ranges, key)

    async def _once(
        self,
        key: EndpointKey,
        decide: Callable[[Endpoint], ReleaseDecision],
        order: ReleaseOrder,
    ) -> Released:
        self._cooldown.grant_ahead()
        known = self.own.take(key)
        decision = None if known is None else _decided(known, decide)
        if known is None or decision is None or not (decision.ends or decision.asks):
            known = await self._read(key)  # only the truth says that nothing is to be released
            decision = _decided(known, decide)
        if decision is None:
            return Released((), "there is no endpoint")
        if decision.asks:
            self.own.put(key, known)  # read before the question, as its answer frees addresses (I6)
        if not decision.ends:
            return Released((), decision.why)
        return await self._end(key, known, decision, order)

    async def _read(self, key: EndpointKey) -> KnownEndpoint:
        """The endpoint and its claims, which may be newer: the release names their revisions."""
        seen = StoredEndpoint.of(
            (await self._store.read([Get(self._keys.endpoint(*key))])).ranges[0].first
        )
        if seen.endpoint is None:
            return KnownEndpoint(seen, ())
        return KnownEndpoint(seen, await self.fences(seen.endpoint.addresses(), key))

    async def _end(
        self, key: EndpointKey, known: KnownEndpoint, decision: ReleaseDecision, order: ReleaseOrder
    ) -> Released:
        keep = order.keep or decision.keep
        kept = {address for nic in keep for address, _ in nic.addresses()}
        releases = tuple(one for one in known.releases if one.address not in kept)
        evidence = "; ".join(filter(None, (order.evidence, decision.evidence)))
        event = AddressesReleased(*key, releases, keep, order.reason, evidence)
        draft = EventDraft(self._writer.event_id(), order.cause, event)
        outcome = await self._cooldown.append(
            self._writer, lambda lease: release_proposal(self._keys, draft, known.seen, lease)
        )
        if isinstance(outcome, Lost):
            raise endpoint_changed(key)
        if self.on_free is not None and not self._cooldown.seconds:
            for one in releases:
                self.on_free(one)
        return Released(tuple(one.address for one in releases), decision.why, outcome.revision)


def _decided(
    known: KnownEndpoint, decide: Callable[[Endpoint], ReleaseDecision]
) -> ReleaseDecision | None:
    """None: there is no endpoint."""
    endpoint = known.seen.endpoint
    return None if endpoint is None else decide(endpoint)

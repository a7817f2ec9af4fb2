"""Change one endpoint and its claims, above all to release addresses.

Read, decide (a pure function), commit: a change commits only if the revisions that were read have
not changed (I3). After a lost race, start again. A release of claims that have ended succeeds
without a write (I7). Reclaim and the network provider name each claim by its revision, so that a
late release changes nothing.

Invariants (I1 to I10): docs/contributing/architecture.md, "Invariants".
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Final, NamedTuple, TypeVar

from core.allocation.cooldown import CoolDown
from core.allocation.proposals import (
    StoredEndpoint,
    change_proposal,
    endpoint_lost_race,
    release_proposal,
)
from core.domain.claims.claim_decisions import ReleaseDecision
from core.domain.events import AddressesReleased, Cause, EndpointChanged, Release, ReleaseReason
from core.domain.evolution import EndpointKey
from core.domain.model import Endpoint, Nic
from core.domain.reclaim.reclaim_plan import ReclaimStep
from core.errors import LostRace, StoreUnavailable
from core.eventstore.claim_cause import link_to_claim
from core.eventstore.codec import CLAIM_CODEC, EventDraft
from core.eventstore.group_commit import Lost
from core.eventstore.keys import Keys
from core.eventstore.kv import Get, KeyValueStore, RangeResult
from core.eventstore.retry_policies import retry_lost_races
from core.eventstore.writer import Writer
from core.process import tracing

T = TypeVar("T")
ClaimRevisions = tuple[tuple[str, int], ...]
"""(address, revision of its claim), sorted."""


class EndpointState(NamedTuple):
    """An endpoint and its claims, with the revisions that were read."""

    stored: StoredEndpoint
    claims: tuple[Release, ...] = ()

    @property
    def endpoint(self) -> Endpoint | None:
        """The endpoint; None if it does not exist."""
        return self.stored.endpoint

    @property
    def claim_revisions(self) -> ClaimRevisions:
        """See ``revisions_of_claims``."""
        return revisions_of_claims(self.claims)


Change = AddressesReleased | EndpointChanged
DecideChange = Callable[[EndpointState], Change | str]
"""Returns the event, or the reason why nothing is written."""


class Changed(NamedTuple):
    """The written event and its revision. Without an event, ``why`` is the reason."""

    event: Change | None
    revision: int = 0
    why: str = ""


def revisions_of_claims(claims: Sequence[Release]) -> ClaimRevisions:
    """The claims as (address, revision), sorted."""
    return tuple(sorted((claim.address, claim.claim_revision) for claim in claims))


def decode_claims(
    addresses: Sequence[str], ranges: Sequence[RangeResult], key: EndpointKey
) -> tuple[Release, ...]:
    """Decode the claims that belong to the endpoint. Raises LogCorrupt.

    ``ranges``: the result of reading the claim key of each address.
    """
    claims = []
    for address, answer in zip(addresses, ranges, strict=True):
        for kv in answer.kvs:
            claim = CLAIM_CODEC.decode(kv.value)
            if (claim.namespace, claim.pod) == key:
                claims.append(Release(address, claim.pool, claim.holder, kv.mod_revision))
    return tuple(claims)


async def read_claims(
    store: KeyValueStore, keys: Keys, key: EndpointKey, addresses: Sequence[str]
) -> tuple[Release, ...]:
    """Read the endpoint's claims of these addresses. Raises StoreUnavailable, LogCorrupt."""
    if not addresses:
        return ()
    result = await store.read([Get(keys.ip_of(address)) for address in addresses])
    return decode_claims(addresses, result.ranges, key)


async def _retried(attempt: Callable[[], Awaitable[T]]) -> T:
    try:
        return await attempt()  # without a retry policy, for speed
    except (LostRace, StoreUnavailable):
        result: T = await retry_lost_races()(attempt)
        return result


class EndpointWriter:
    """Changes endpoints. Several calls may run at the same time."""

    def __init__(
        self, store: KeyValueStore, keys: Keys, writer: Writer, cooldown: CoolDown
    ) -> None:
        self._store = store
        self._keys = keys
        self._writer = writer
        self._cooldown = cooldown
        self.lost_races = 0

    async def change(
        self, key: EndpointKey, addresses: Sequence[str], decide: DecideChange, cause: Cause
    ) -> Changed:
        """Write what ``decide`` returns for the endpoint and the claims of these addresses.

        Raises StoreUnavailable, OutcomeUnknown, and LostRace after the last try.
        """
        return await _retried(partial(self._change_once, key, addresses, decide, cause))

    async def read_claims(self, key: EndpointKey, addresses: Sequence[str]) -> tuple[Release, ...]:
        """See the function ``read_claims``."""
        return await read_claims(self._store, self._keys, key, addresses)

    async def read(self, key: EndpointKey) -> EndpointState:
        """Read the endpoint, then its claims. The claims may be newer than the endpoint."""
        result = await self._store.read([Get(self._keys.endpoint(*key))])
        stored = StoredEndpoint.of(*result.ranges[0].kvs)
        if stored.endpoint is None:
            return EndpointState(stored)
        addresses = [address for address, _ in stored.endpoint.addresses()]
        return EndpointState(stored, await self.read_claims(key, addresses))

    async def commit(
        self, key: EndpointKey, state: EndpointState, event: Change, cause: Cause
    ) -> int:
        """Write the event if endpoint and claims have not changed; returns the revision.

        Raises LostRace, StoreUnavailable, OutcomeUnknown.
        """
        draft = EventDraft(self._writer.event_id(), cause, event)
        if isinstance(event, EndpointChanged):
            outcome = await self._writer.append(change_proposal(self._keys, draft, state.stored))
        else:
            outcome = await self._cooldown.append(
                self._writer, lambda lease: release_proposal(self._keys, draft, state.stored, lease)
            )
        if isinstance(outcome, Lost):
            self.lost_races += 1
            raise endpoint_lost_race(key)
        return outcome.revision

    async def _change_once(
        self, key: EndpointKey, addresses: Sequence[str], decide: DecideChange, cause: Cause
    ) -> Changed:
        gets = [
            Get(self._keys.endpoint(*key)),
            *(Get(self._keys.ip_of(address)) for address in addresses),
        ]
        endpoint, *ranges = (await self._store.read(gets)).ranges
        claims = decode_claims(addresses, ranges, key)
        state = EndpointState(StoredEndpoint.of(*endpoint.kvs), claims)
        event = decide(state)
        if isinstance(event, str):
            return Changed(event=None, why=event)
        return Changed(event, await self.commit(key, state, event, cause))


ENDPOINTS_MAX: Final = 512
"""More than a node has Pods. A further endpoint replaces the oldest."""


class EndpointCache:
    """A cache of endpoints with their claims, so that a release need not read etcd.

    An entry may be stale: if a guard of the release then fails (I3), the release reads etcd.
    """

    def __init__(self) -> None:
        # OrderedDict: a dict becomes slow if its oldest key is removed again and again.
        self._states: OrderedDict[EndpointKey, EndpointState | StoredEndpoint] = OrderedDict()

    def put(self, key: EndpointKey, state: EndpointState) -> None:
        """Store the state of the endpoint."""
        self._put(key, state)

    def put_claimed(self, endpoint: Endpoint, revision: int) -> None:
        """Store an endpoint that one transaction has created together with all of its claims."""
        self._put((endpoint.namespace, endpoint.name), StoredEndpoint(endpoint, revision))

    def pop(self, key: EndpointKey) -> EndpointState | None:
        """Remove and return the state of the endpoint; None if it is not in the cache."""
        state = self._states.pop(key, None)
        return _with_claims(state) if isinstance(state, StoredEndpoint) else state

    def _put(self, key: EndpointKey, state: EndpointState | StoredEndpoint) -> None:
        self._states[key] = state
        self._states.move_to_end(key)
        if len(self._states) > ENDPOINTS_MAX:
            self._states.popitem(last=False)


def _with_claims(stored: StoredEndpoint) -> EndpointState:
    endpoint, revision = stored
    assert endpoint is not None, "the cached state has no endpoint"
    claims = (
        Release(address, pool, endpoint.holder, revision) for address, pool in endpoint.addresses()
    )
    return EndpointState(stored, tuple(claims))


CHANGED_SINCE: Final = "the endpoint or its claims have changed since the decision"
ENDED_BEFORE: Final = "these claims have ended already"
RECLAIMED: Final = "reclaimed"


class ReleaseRequest(NamedTuple):
    """A release needs reason and evidence (I6). ``keep``: NICs that are not released."""

    reason: ReleaseReason
    evidence: str
    cause: Cause
    keep: tuple[Nic, ...] = ()


class Released(NamedTuple):
    """The released addresses. ``revision`` 0: nothing was written."""

    addresses: tuple[str, ...]
    why: str
    revision: int = 0


DecideRelease = Callable[[Endpoint], ReleaseDecision]
"""Decides whether the claims of the endpoint end."""

ProviderRelease = Callable[
    [EndpointKey, DecideRelease, ReleaseReason, str], Awaitable[Released | None]
]
"""The type of ``Handover.hand_over``.

Returns None if no network provider has bound an address of the endpoint.
"""


class Releaser(EndpointWriter):
    """Releases addresses. Several calls may run at the same time.

    Every release raises the errors of ``EndpointWriter.change``. Addresses that a network provider
    has bound are handed over to ``provider`` instead.
    """

    def __init__(
        self,
        store: KeyValueStore,
        keys: Keys,
        writer: Writer,
        cooldown: CoolDown,
        provider: ProviderRelease | None = None,
    ) -> None:
        super().__init__(store, keys, writer, cooldown)
        self._provider = provider
        self.cache = EndpointCache()
        self.on_free: Callable[[Release], None] | None = None
        """Called for each address that this process has released without a cool-down."""

    async def release(
        self, key: EndpointKey, decide: DecideRelease, request: ReleaseRequest
    ) -> Released:
        """Release the endpoint except for the NICs to keep, if ``decide`` returns ``ends``."""

        def decide_with_kept_nics(endpoint: Endpoint) -> ReleaseDecision:
            decision = decide(endpoint)
            return decision._replace(keep=request.keep or decision.keep)

        handover_result = await self.hand_over(
            key, decide_with_kept_nics, request.reason, request.evidence
        )
        if handover_result is not None:
            return handover_result
        return await _retried(partial(self._release_once, key, decide_with_kept_nics, request))

    async def reclaim(self, step: ReclaimStep, cause: Cause) -> Released:
        """Release the claims of the step, if endpoint and claims match the step's fence.

        A claim of another Pod stays (docs/reference/reclaim-rules.md, "Addresses in use").
        """
        evidence = str(step.evidence)

        def decide_handover(endpoint: Endpoint) -> ReleaseDecision:
            return ReleaseDecision(ends=step.fence.matches(endpoint), why=CHANGED_SINCE)

        def decide(state: EndpointState) -> AddressesReleased | str:
            if state.claim_revisions != step.fence.claims or not step.fence.matches(state.endpoint):
                return CHANGED_SINCE
            nics = () if state.endpoint is None or step.ends_endpoint else state.endpoint.nics
            return AddressesReleased(*step.key, state.claims, nics, "reclaimed", evidence)

        if step.ends_endpoint:
            handover_result = await self.hand_over(step.key, decide_handover, "reclaimed", evidence)
            if handover_result is not None:
                return handover_result
        addresses = [address for address, _ in step.fence.claims]
        done = await self.release_claims(step.key, addresses, decide, cause)
        return done._replace(why=RECLAIMED) if done.revision else done

    async def end_claims(
        self,
        key: EndpointKey,
        claims: ClaimRevisions,
        reason: ReleaseReason,
        evidence: str,
        cause: Cause,
    ) -> Released:
        """End those of the claims that still exist; the endpoint keeps its other NICs.

        The network provider must have unbound the addresses.
        """

        def decide(state: EndpointState) -> AddressesReleased | str:
            ending = tuple(
                claim for claim in state.claims if (claim.address, claim.claim_revision) in claims
            )
            if not ending:
                return ENDED_BEFORE
            nics = _nics_without(state.endpoint, ending)
            return AddressesReleased(*key, ending, nics, reason, evidence)

        return await self.release_claims(key, [address for address, _ in claims], decide, cause)

    async def hand_over(
        self, key: EndpointKey, decide: DecideRelease, reason: ReleaseReason, evidence: str
    ) -> Released | None:
        """Call ``Handover.hand_over``; None without a network provider."""
        if self._provider is None:
            return None
        return await self._provider(key, decide, reason, evidence)

    async def release_claims(
        self, key: EndpointKey, addresses: Sequence[str], decide: DecideChange, cause: Cause
    ) -> Released:
        """Like ``change``. ``decide`` returns AddressesReleased, or why nothing is released."""
        event, revision, why = await self.change(key, addresses, decide, cause)
        if event is None:
            return Released((), why)
        assert isinstance(event, AddressesReleased)
        return Released(event.addresses(), event.evidence, revision)

    async def _release_once(
        self, key: EndpointKey, decide: DecideRelease, request: ReleaseRequest
    ) -> Released:
        self._cooldown.grant_ahead()  # so that later releases do not wait for a lease
        state = self.cache.pop(key)
        decision = None if state is None else _decide(state, decide)
        if state is None or decision is None or not (decision.ends or decision.needs_check):
            state = await self.read(key)
            decision = _decide(state, decide)
        if decision is None:
            return Released((), "there is no endpoint")
        if decision.needs_check:
            # The caller checks with the API server, and calls again. The cached state makes the
            # second call end only these claims (I3).
            self.cache.put(key, state)
        if not decision.ends:
            return Released((), decision.why)
        kept_addresses = {address for nic in decision.keep for address, _ in nic.addresses()}
        ending = tuple(claim for claim in state.claims if claim.address not in kept_addresses)
        evidence = "; ".join(filter(None, (request.evidence, decision.evidence)))
        event = AddressesReleased(*key, ending, decision.keep, request.reason, evidence)
        revision = await self.commit(key, state, event, request.cause)
        if self.on_free is not None and not self._cooldown.seconds:
            for claim in ending:
                self.on_free(claim)
        span = tracing.current_span()
        if span is not None and ending:
            await link_to_claim(span, self._store, self._keys, ending[0])
        return Released(event.addresses(), decision.why, revision)


def _decide(state: EndpointState, decide: DecideRelease) -> ReleaseDecision | None:
    return None if state.endpoint is None else decide(state.endpoint)


def _nics_without(endpoint: Endpoint | None, ending: Sequence[Release]) -> tuple[Nic, ...]:
    addresses = {claim.address for claim in ending}
    nics = () if endpoint is None else endpoint.nics
    return tuple(
        nic for nic in nics if addresses.isdisjoint(address for address, _ in nic.addresses())
    )

"""Change one endpoint and its claims in one transaction.

A release or change of an endpoint reads the endpoint and its claims, decides, and commits if the
revisions that were read have not changed (I3); after a lost race it starts again. The decision is a
pure function of the values that were read.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from core.allocation.cooldown import CoolDown
from core.allocation.proposals import (
    StoredEndpoint,
    change_proposal,
    endpoint_changed,
    release_proposal,
)
from core.domain.events import AddressesReleased, Cause, EndpointChanged, Release
from core.domain.evolution import EndpointKey
from core.domain.model import Endpoint
from core.eventstore.batch import Lost
from core.eventstore.codec import CLAIM, EventDraft
from core.eventstore.keys import Keys
from core.eventstore.kv import Get, KeyValueStore, RangeResult
from core.eventstore.retry_policies import retry_lost_races
from core.eventstore.writer import Writer

ClaimRevisions = tuple[tuple[str, int], ...]
"""(address, revision of its claim), sorted."""


class EndpointState(NamedTuple):
    """An endpoint and its claims, each with the revision that was read."""

    stored: StoredEndpoint
    claims: tuple[Release, ...] = ()

    @property
    def endpoint(self) -> Endpoint | None:
        """The endpoint; None if it does not exist."""
        return self.stored.endpoint

    @property
    def claim_revisions(self) -> ClaimRevisions:
        """The claims as (address, revision), sorted."""
        return claim_revisions(self.claims)


Change = AddressesReleased | EndpointChanged
DecideChange = Callable[[EndpointState], Change | str]
"""Returns the event to write, or the reason why nothing is written."""


class Changed(NamedTuple):
    """The event that was written at ``revision``; None and 0: nothing was written (``why``)."""

    event: Change | None
    revision: int = 0
    why: str = ""


def claim_revisions(claims: Sequence[Release]) -> ClaimRevisions:
    """The claims as (address, revision), sorted."""
    return tuple(sorted((claim.address, claim.claim_revision) for claim in claims))


def claims_in(
    addresses: Sequence[str], ranges: Sequence[RangeResult], key: EndpointKey
) -> tuple[Release, ...]:
    """The claims of these addresses that belong to the endpoint. Raises LogCorrupt.

    ``ranges``: the result of reading the claim key of each address.
    """
    claims = []
    for address, answer in zip(addresses, ranges, strict=True):
        for kv in answer.kvs:
            claim = CLAIM.decode(kv.value)
            if (claim.namespace, claim.pod) == key:
                claims.append(Release(address, claim.pool, claim.holder, kv.mod_revision))
    return tuple(claims)


async def read_claims(
    store: KeyValueStore, keys: Keys, key: EndpointKey, addresses: Sequence[str]
) -> tuple[Release, ...]:
    """The claims that the endpoint has of these addresses. Raises StoreUnavailable, LogCorrupt."""
    if not addresses:
        return ()
    result = await store.read([Get(keys.ip_of(address)) for address in addresses])
    return claims_in(addresses, result.ranges, key)


class EndpointWriter:
    """Changes endpoints with one writer; several calls may run at the same time.

    ``lost_races``: transactions that failed because another writer was faster.
    """

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

        Raises StoreUnavailable, OutcomeUnknown, LostRace (after the time limit of
        ``retry_lost_races``).
        """
        changed: Changed = await retry_lost_races()(
            self._change_once, key, addresses, decide, cause
        )
        return changed

    async def read_claims(self, key: EndpointKey, addresses: Sequence[str]) -> tuple[Release, ...]:
        """The claims that the endpoint has of these addresses, each with its revision."""
        return await read_claims(self._store, self._keys, key, addresses)

    async def read(self, key: EndpointKey) -> EndpointState:
        """Read the endpoint, then its claims, which may be newer than the endpoint."""
        result = await self._store.read([Get(self._keys.endpoint(*key))])
        stored = StoredEndpoint.of(result.ranges[0].first)
        if stored.endpoint is None:
            return EndpointState(stored)
        addresses = [address for address, _ in stored.endpoint.addresses()]
        return EndpointState(stored, await self.read_claims(key, addresses))

    async def commit(
        self, key: EndpointKey, state: EndpointState, event: Change, cause: Cause
    ) -> int:
        """Write the event if the endpoint and the claims have not changed; returns the revision.

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
            raise endpoint_changed(key)
        return outcome.revision

    async def _change_once(
        self, key: EndpointKey, addresses: Sequence[str], decide: DecideChange, cause: Cause
    ) -> Changed:
        gets = [Get(self._keys.endpoint(*key)), *(Get(self._keys.ip_of(one)) for one in addresses)]
        endpoint, *claims = (await self._store.read(gets)).ranges
        state = EndpointState(StoredEndpoint.of(endpoint.first), claims_in(addresses, claims, key))
        event = decide(state)
        if isinstance(event, str):
            return Changed(None, why=event)
        return Changed(event, await self.commit(key, state, event, cause))


ENDPOINTS_MAX: Final = 512
"""Endpoints in the cache: more than the Pods of a node. Beyond it the oldest is dropped."""


class EndpointCache:
    """A cache of the endpoints that this process has claimed or read last, with their claims.

    With an entry, a release reads nothing from etcd. The entry may be stale: the guards of the
    release compare its revisions (I3), and if a guard fails, the release reads etcd.
    """

    def __init__(self) -> None:
        # OrderedDict: dropping the oldest key of a dict costs time in proportion to the keys
        # deleted before it.
        self._states: OrderedDict[EndpointKey, EndpointState | StoredEndpoint] = OrderedDict()

    def put(self, key: EndpointKey, state: EndpointState) -> None:
        """Store the state of the endpoint; replaces an older one."""
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
    """Add the claims that were made with the endpoint; done only for a DEL, not for every ADD."""
    endpoint, revision = stored
    assert endpoint is not None, "it was claimed"
    claims = (
        Release(address, pool, endpoint.holder, revision) for address, pool in endpoint.addresses()
    )
    return EndpointState(stored, tuple(claims))

"""What an ADD would do, without doing it: selection, the addresses it would try, what is there.

The same selection, searches and reads as the allocator's; nothing is appended. Between this answer
and a real ADD others may claim: it is an explanation, not a promise.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from core.allocation.address_finder import Finder
from core.allocation.record_limit import RECORDS_MAX, RecordLimit
from core.domain.addresses.address_set import AddressSet
from core.domain.addresses.choice import Search
from core.domain.addresses.ip_address import Address, Family, parse_address
from core.domain.addresses.routes import unmatched_routes
from core.domain.claims.assignment import nic_with
from core.domain.claims.claim_decisions import (
    EndpointUpdate,
    PoolRequest,
    Repeat,
    decide_add,
    holder_of,
    moved_nics,
    unmet,
)
from core.domain.events import RecordDefined
from core.domain.facts import PodFacts, PodReference, RequestFacts
from core.domain.fixed.owners import FixedSettings
from core.domain.model import Attachment, Endpoint, Nic, Route
from core.domain.selection.request import (
    Candidates,
    CandidateVerdict,
    Demand,
    Selection,
    SelectionRequest,
    SelectionSettings,
)
from core.domain.selection.select import candidates, select
from core.errors import AllocationError
from core.eventstore.codec import CLAIM, ENDPOINT
from core.eventstore.keys import Keys
from core.eventstore.kv import Get, KeyValueStore
from core.projections.configuration_view import ConfigurationSnapshot, ConfigurationView
from nodeagent.facts import StandaloneFacts

USUAL: Final = SelectionSettings(subnets_enabled=True, auto_pools_enabled=True)
"""The cluster's settings as they are unless its operator says otherwise."""


class Trial(NamedTuple):
    """One pool of one demand: the address tried first, what is in its way, and the one after it.

    ``first`` "" means that the pool has nothing to hand out, or may not (``obstacle``); ``then`` ""
    that nothing else is free.
    """

    interface: str
    family: Family
    pool: str
    first: str
    obstacle: str = ""
    then: str = ""

    @property
    def address(self) -> str:
        """What an ADD would get; "" when the pool is full."""
        return self.then if self.obstacle else self.first


class Explanation(NamedTuple):
    """``held``: the endpoint there is. ``repeats``: an ADD would answer it and claim nothing.

    ``outlook``: what becomes of the addresses it shows, in words. ``stray_routes``: those of the
    Pod's annotation that no NIC of this ADD can take.
    """

    facts: RequestFacts
    held: Endpoint | None
    repeats: bool
    outlook: str
    selection: Selection | None
    error: AllocationError | None
    trials: tuple[Trial, ...]
    stray_routes: tuple[Route, ...] = ()

    @property
    def verdicts(self) -> tuple[CandidateVerdict, ...]:
        """What became of each candidate, also when selection failed."""
        if self.selection is not None:
            return self.selection.verdicts
        found = self.error.verdicts if self.error is not None else ()
        return tuple(one for one in found if isinstance(one, CandidateVerdict))

    @property
    def served(self) -> bool:
        """Whether an ADD would succeed now."""
        if self.repeats:
            return True
        wanted = {(one.interface, one.family) for one in self.trials}
        got = {(one.interface, one.family) for one in self.trials if one.address}
        return self.error is None and wanted == got


async def read_snapshot(
    store: KeyValueStore, keys: Keys, records: Sequence[RecordDefined]
) -> ConfigurationSnapshot:
    """The present configuration, with these records in place of the stored ones."""
    view = ConfigurationView(store, keys)
    await view.start()
    await view.close()
    snapshot = view.current
    for record in records:
        snapshot.records[record.kind, record.namespace, record.name] = record
    return snapshot


def facts_of(
    store: KeyValueStore, keys: Keys, snapshot: ConfigurationSnapshot, pod: PodReference, node: str
) -> RequestFacts:
    """What an agent on this node would know of the Pod."""
    view = ConfigurationView(store, keys)
    view.current = snapshot
    return StandaloneFacts(view, node, FixedSettings()).facts(pod)


async def explain_add(
    store: KeyValueStore,
    keys: Keys,
    snapshot: ConfigurationSnapshot,
    facts: RequestFacts,
    request: SelectionRequest,
) -> Explanation:
    """What an ADD would do now. Raises StoreUnavailable."""
    key = keys.endpoint(*facts.pod.endpoint_key)
    found = (await store.read([Get(key)])).ranges[0].kvs
    held = ENDPOINT.decode(found[0].value) if found else None
    moved, named = moved_by_template(snapshot, facts, request, held)
    attachment = Attachment("", request.interface)
    need = decide_add(facts.pod, attachment, held, moved=moved, named=named)
    outlook = _outlook(facts.pod, need, moves=bool(moved))
    settled = need.settled if isinstance(need, PoolRequest) else frozenset()
    try:
        selection = select(request, facts, snapshot.catalog, USUAL, settled)
    except AllocationError as error:
        repeats = not isinstance(need, PoolRequest)
        return Explanation(facts, held, repeats, outlook, None, error, ())
    if not isinstance(need, PoolRequest):
        return Explanation(facts, held, True, outlook, selection, None, ())
    demands = unmet(selection, need.keep)
    trying = _Trying(store, keys, snapshot, holder_of(facts.pod), need)
    trials = [one for demand in demands for one in await trying.all(demand)]
    stray = unmatched_routes(
        [*need.keep, *need.listed, *_nics_of(trials, snapshot)], selection.routes
    )
    return Explanation(facts, held, False, outlook, selection, None, tuple(trials), stray)


def _nics_of(trials: Iterable[Trial], snapshot: ConfigurationSnapshot) -> Iterator[Nic]:
    """A NIC for each address that would be had."""
    for one in trials:
        if one.address:
            pool, address = snapshot.pools[one.pool].pool, parse_address(one.address)
            yield nic_with(one.interface, [(pool, address.value)])


def moved_by_template(
    snapshot: ConfigurationSnapshot,
    facts: RequestFacts,
    request: SelectionRequest,
    held: Endpoint | None,
) -> tuple[frozenset[int], Candidates | None]:
    """The NICs of a replica that its next Pod gets elsewhere, and what its template names.

    A template that cannot be read moves nothing.
    """
    if held is None or facts.pod.fixed != "statefulset" or held.holder != holder_of(facts.pod):
        return frozenset(), None
    try:
        named = candidates(request, facts, snapshot.catalog, SelectionSettings())
    except AllocationError:
        return frozenset(), None
    return moved_nics(held, named, Attachment("", request.interface)), named


def _outlook(pod: PodFacts, need: Repeat | EndpointUpdate | PoolRequest, *, moves: bool) -> str:
    if moves:
        return "the Pod names other IPPools now, so its next ADD moves them"
    if isinstance(need, PoolRequest):
        return "an ADD replaces or extends them"
    if pod.fixed is None:
        return "an ADD answers these again"
    return f"fixed, every Pod of {holder_of(pod)} gets these again"


class _Trying:
    """One ADD that is not made; what one NIC would get no other one gets.

    What the ADD gives up it may take again: a replica before anything else, another Pod of the
    name when nothing else is left.
    """

    def __init__(
        self,
        store: KeyValueStore,
        keys: Keys,
        snapshot: ConfigurationSnapshot,
        holder: str,
        need: PoolRequest,
    ) -> None:
        self._need = need
        self._store = store
        self._keys = keys
        self._snapshot = snapshot
        self._holder = holder
        self._finder = Finder(store, keys)
        self._limit = RecordLimit(self._finder, RECORDS_MAX)
        self._mine: dict[Address, str] = {}

    async def all(self, demand: Demand) -> list[Trial]:
        """A demand's pools in order; the first that has an address is the one an ADD takes."""
        trials: list[Trial] = []
        got = False
        for pool in demand.pools:
            one = await self._one(demand, pool)
            trials.append(one)
            if one.address and not got:
                got = True
                self._mine[parse_address(one.address)] = demand.interface
        return trials

    async def _one(self, demand: Demand, pool: str) -> Trial:
        usable, place = self._snapshot.usable(pool), (demand.interface, demand.family, pool)
        given_up = self._given_up(usable, pool)
        if given_up and self._need.why != "superseded":
            return Trial(*place, given_up)
        search = Search(usable, "spread", f"{self._holder} {demand.interface}")
        value = search.next(())
        if value is None:
            return Trial(*place, "")
        first = Address(demand.family, value)
        obstacle = await self._limit.refusal(pool, usable)
        if obstacle:
            return Trial(*place, "", obstacle, given_up)
        obstacle = await self._obstacle(first)
        if not obstacle:
            return Trial(*place, str(first))
        avoid = {address.value for address in self._mine if address.family == demand.family}
        free = await self._finder.find(search, avoid)
        then = given_up if free is None else str(Address(demand.family, free.value))
        return Trial(*place, str(first), obstacle, then)

    def _given_up(self, usable: AddressSet, pool: str) -> str:
        """An address of this pool that the ADD itself gives up, or ""."""
        for text, its_pool in self._need.give_up:
            address = parse_address(text)
            is_free = address not in self._mine and address.value in usable
            if its_pool == pool and is_free:
                return text
        return ""

    async def _obstacle(self, address: Address) -> str:
        """Why the address cannot be had at the first try; "" for nothing."""
        if address in self._mine:
            return f"goes to NIC {self._mine[address]}"
        gets = [Get(self._keys.ip(*address)), Get(self._keys.rest(*address))]
        held, resting = (one.kvs for one in (await self._store.read(gets)).ranges)
        if held:
            claim = CLAIM.decode(held[0].value)
            return f"is held by {claim.namespace}/{claim.pod}"
        return "rests" if resting and resting[0].value != self._holder.encode() else ""

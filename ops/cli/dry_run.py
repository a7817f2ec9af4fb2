"""The effects of an ADD, without carrying it out: selection, candidate addresses, existing claims.

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
    ClaimPlan,
    EndpointUpdate,
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
"""The default settings of a cluster."""


class Trial(NamedTuple):
    """One pool of one demand: the first address to try, its obstacle, and the next one.

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
    """``held``: the existing endpoint. ``repeats``: an ADD would return it and claim nothing.

    ``outlook``: what happens to its addresses, as text. ``unmatched_routes``: routes of the Pod's
    annotation that match no NIC of this ADD.
    """

    facts: RequestFacts
    held: Endpoint | None
    repeats: bool
    outlook: str
    selection: Selection | None
    error: AllocationError | None
    trials: tuple[Trial, ...]
    unmatched_routes: tuple[Route, ...] = ()

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
    """The facts that an agent on this node would have of the Pod."""
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
    """Explain what an ADD would do now. Raises StoreUnavailable."""
    key = keys.endpoint(*facts.pod.endpoint_key)
    kvs = (await store.read([Get(key)])).ranges[0].kvs
    held = ENDPOINT.decode(kvs[0].value) if kvs else None
    moved, named = moved_by_template(snapshot, facts, request, held)
    attachment = Attachment("", request.interface)
    decision = decide_add(facts.pod, attachment, held, moved=moved, named=named)
    outlook = _outlook(facts.pod, decision, moves=bool(moved))
    settled = decision.settled if isinstance(decision, ClaimPlan) else frozenset()
    try:
        selection = select(request, facts, snapshot.catalog, USUAL, settled)
    except AllocationError as error:
        repeats = not isinstance(decision, ClaimPlan)
        return Explanation(facts, held, repeats, outlook, None, error, ())
    if not isinstance(decision, ClaimPlan):
        return Explanation(facts, held, True, outlook, selection, None, ())
    demands = unmet(selection, decision.keep)
    trying = _Trying(store, keys, snapshot, holder_of(facts.pod), decision)
    trials = [trial for demand in demands for trial in await trying.all(demand)]
    unmatched = unmatched_routes(
        [*decision.keep, *decision.listed, *_nics_of(trials, snapshot)], selection.routes
    )
    return Explanation(facts, held, False, outlook, selection, None, tuple(trials), unmatched)


def _nics_of(trials: Iterable[Trial], snapshot: ConfigurationSnapshot) -> Iterator[Nic]:
    """A NIC for each address that the trials found."""
    for trial in trials:
        if trial.address:
            pool, address = snapshot.pools[trial.pool].pool, parse_address(trial.address)
            yield nic_with(trial.interface, [(pool, address.value)])


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


def _outlook(pod: PodFacts, decision: Repeat | EndpointUpdate | ClaimPlan, *, moves: bool) -> str:
    if moves:
        return "the Pod names other IPPools now, so its next ADD moves them"
    if isinstance(decision, ClaimPlan):
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
        claim_plan: ClaimPlan,
    ) -> None:
        self._claim_plan = claim_plan
        self._store = store
        self._keys = keys
        self._snapshot = snapshot
        self._holder = holder
        self._finder = Finder(store, keys)
        self._limit = RecordLimit(self._finder, RECORDS_MAX)
        self._mine: dict[Address, str] = {}

    async def all(self, demand: Demand) -> list[Trial]:
        """Try the pools of a demand in order; an ADD takes the first that has an address."""
        trials: list[Trial] = []
        got = False
        for pool in demand.pools:
            trial = await self._one(demand, pool)
            trials.append(trial)
            if trial.address and not got:
                got = True
                self._mine[parse_address(trial.address)] = demand.interface
        return trials

    async def _one(self, demand: Demand, pool: str) -> Trial:
        usable, scope = self._snapshot.usable(pool), (demand.interface, demand.family, pool)
        given_up = self._given_up(usable, pool)
        if given_up and self._claim_plan.why != "superseded":
            return Trial(*scope, given_up)
        search = Search(usable, "spread", f"{self._holder} {demand.interface}")
        value = search.next(())
        if value is None:
            return Trial(*scope, "")
        first = Address(demand.family, value)
        obstacle = await self._limit.refusal(pool, usable)
        if obstacle:
            return Trial(*scope, "", obstacle, given_up)
        obstacle = await self._obstacle(first)
        if not obstacle:
            return Trial(*scope, str(first))
        avoid = {address.value for address in self._mine if address.family == demand.family}
        free = await self._finder.find(search, avoid)
        then = given_up if free is None else str(Address(demand.family, free.value))
        return Trial(*scope, str(first), obstacle, then)

    def _given_up(self, usable: AddressSet, pool: str) -> str:
        """An address of this pool that the ADD itself releases, or ""."""
        for text, its_pool in self._claim_plan.give_up:
            address = parse_address(text)
            is_free = address not in self._mine and address.value in usable
            if its_pool == pool and is_free:
                return text
        return ""

    async def _obstacle(self, address: Address) -> str:
        """Why an ADD would not get the address at its first try; "" if it would."""
        if address in self._mine:
            return f"goes to NIC {self._mine[address]}"
        gets = [Get(self._keys.ip(*address)), Get(self._keys.cool_down(*address))]
        held, marks = (one.kvs for one in (await self._store.read(gets)).ranges)
        if held:
            claim = CLAIM.decode(held[0].value)
            return f"is held by {claim.namespace}/{claim.pod}"
        in_cool_down = bool(marks) and marks[0].value != self._holder.encode()
        return "is in cool-down" if in_cool_down else ""

"""Predicts the result of an ADD, and writes nothing.

Selects pools and searches addresses as the allocator does. A later ADD gets another address if
another Pod claims the predicted address first.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from core.allocation.address_finder import Finder
from core.allocation.allocation_limit import RECORD_LIMIT_DEFAULT, RecordLimit
from core.domain.addresses.address_set import AddressSet
from core.domain.addresses.choice import Search
from core.domain.addresses.ip_address import Address, Family, parse_address
from core.domain.addresses.routes import unmatched_routes
from core.domain.claims.assignment import nic_with_addresses
from core.domain.claims.claim_decisions import (
    ClaimPlan,
    EndpointUpdate,
    Repeat,
    decide_add,
    holder_of,
    nics_with_changed_pools,
    unmet_demands,
)
from core.domain.events import RecordDefined
from core.domain.fixed.fixed_address_owners import FixedSettings
from core.domain.model import Attachment, Endpoint, Nic, Route
from core.domain.request_facts import PodFacts, PodReference, RequestFacts
from core.domain.selection.pool_selection import requested_pools, select
from core.domain.selection.selection_request import (
    Candidates,
    CandidateVerdict,
    Demand,
    Selection,
    SelectionRequest,
    SelectionSettings,
)
from core.errors import AllocationError
from core.eventstore.codec import CLAIM_CODEC, ENDPOINT_CODEC
from core.eventstore.keys import Keys
from core.eventstore.kv import Get, KeyValueStore
from core.projections.configuration_view import ConfigurationSnapshot, ConfigurationView
from nodeagent.pod_facts import StandaloneFactsSource

DEFAULT_SETTINGS: Final = SelectionSettings(subnets_enabled=True, auto_pools_enabled=True)


class Trial(NamedTuple):
    """The result of trying one pool for one demand.

    ``first``: the first address that the ADD tries; "" if the pool is full or at its limit.
    ``obstacle``: why the ADD does not get ``first`` (holder, other NIC, cool-down), or why the
    pool is at its limit. ``then``: the address that the ADD gets instead, "" for none.
    """

    interface: str
    family: Family
    pool: str
    first: str
    obstacle: str = ""
    then: str = ""

    @property
    def address(self) -> str:
        """The address that an ADD would get; "" for none."""
        return self.then if self.obstacle else self.first


class Explanation(NamedTuple):
    """What an ADD of a Pod would do now.

    ``held``: the Pod's endpoint. ``repeats``: an ADD would return the addresses of ``held`` and
    claim no others. ``outlook``: what an ADD does with the addresses of ``held``.
    ``unmatched_routes``: routes of the Pod that match no NIC.
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
        """The verdicts on candidate pools, even if the selection failed."""
        if self.selection is not None:
            return self.selection.verdicts
        verdicts = self.error.verdicts if self.error is not None else ()
        return tuple(verdict for verdict in verdicts if isinstance(verdict, CandidateVerdict))

    @property
    def would_succeed(self) -> bool:
        """Whether an ADD would succeed now."""
        if self.repeats:
            return True
        demanded = {(trial.interface, trial.family) for trial in self.trials}
        served = {(trial.interface, trial.family) for trial in self.trials if trial.address}
        return self.error is None and demanded == served


async def read_snapshot(
    store: KeyValueStore, keys: Keys, records: Sequence[RecordDefined]
) -> ConfigurationSnapshot:
    """Read the configuration; ``records`` replace stored records of the same name."""
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
    """The facts about the Pod that an agent on this node would have."""
    view = ConfigurationView(store, keys)
    view.current = snapshot
    return StandaloneFactsSource(view, node, FixedSettings()).facts(pod)


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
    held = ENDPOINT_CODEC.decode(kvs[0].value) if kvs else None
    changed, requested = nics_changed_by_template(snapshot, facts, request, held)
    attachment = Attachment(container="", interface=request.interface)
    decision = decide_add(facts.pod, attachment, held, changed=changed, requested=requested)
    outlook = _outlook(facts.pod, decision, pools_changed=bool(changed))
    listed_families = decision.listed_families if isinstance(decision, ClaimPlan) else frozenset()
    try:
        selection = select(request, facts, snapshot.catalog, DEFAULT_SETTINGS, listed_families)
    except AllocationError as error:
        repeats = not isinstance(decision, ClaimPlan)
        return Explanation(facts, held, repeats, outlook, selection=None, error=error, trials=())
    if not isinstance(decision, ClaimPlan):
        return Explanation(
            facts, held, repeats=True, outlook=outlook, selection=selection, error=None, trials=()
        )
    demands = unmet_demands(selection, decision.keep)
    dry_add = _DryAdd(store, keys, snapshot, holder_of(facts.pod), decision)
    trials = [trial for demand in demands for trial in await dry_add.trials_of(demand)]
    unmatched = unmatched_routes(
        [*decision.keep, *decision.listed, *_nics_of(trials, snapshot)], selection.routes
    )
    return Explanation(
        facts,
        held,
        repeats=False,
        outlook=outlook,
        selection=selection,
        error=None,
        trials=tuple(trials),
        unmatched_routes=unmatched,
    )


def _nics_of(trials: Iterable[Trial], snapshot: ConfigurationSnapshot) -> Iterator[Nic]:
    for trial in trials:
        if trial.address:
            pool, address = snapshot.pools[trial.pool].pool, parse_address(trial.address)
            yield nic_with_addresses(trial.interface, [(pool, address.value)])


def nics_changed_by_template(
    snapshot: ConfigurationSnapshot,
    facts: RequestFacts,
    request: SelectionRequest,
    held: Endpoint | None,
) -> tuple[frozenset[int], Candidates | None]:
    """Indexes of NICs whose pools changed in the StatefulSet's template, and the new pools.

    If the template's pools cannot be determined, no NIC counts as changed.
    """
    if held is None or facts.pod.fixed != "statefulset" or held.holder != holder_of(facts.pod):
        return frozenset(), None
    try:
        named = requested_pools(request, facts, snapshot.catalog, SelectionSettings())
    except AllocationError:
        return frozenset(), None
    attachment = Attachment(container="", interface=request.interface)
    return nics_with_changed_pools(held, named, attachment), named


def _outlook(
    pod: PodFacts, decision: Repeat | EndpointUpdate | ClaimPlan, *, pools_changed: bool
) -> str:
    if pools_changed:
        return "the Pod names other IPPools now, so its next ADD replaces these addresses"
    if isinstance(decision, ClaimPlan):
        return "an ADD replaces these addresses or adds others"
    if pod.fixed is None:
        return "an ADD returns these addresses again"
    return f"every Pod of {holder_of(pod)} gets these fixed addresses again"


class _DryAdd:
    """Predicts the addresses of one ADD; no two NICs get the same address."""

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
        self._limit = RecordLimit(self._finder, RECORD_LIMIT_DEFAULT)
        self._interface_of: dict[Address, str] = {}

    async def trials_of(self, demand: Demand) -> list[Trial]:
        """Try the pools in order; an ADD takes the first pool with a usable address."""
        trials: list[Trial] = []
        is_served = False
        for pool in demand.pools:
            trial = await self._trial(demand, pool)
            trials.append(trial)
            if trial.address and not is_served:
                is_served = True
                self._interface_of[parse_address(trial.address)] = demand.interface
        return trials

    async def _trial(self, demand: Demand, pool: str) -> Trial:
        usable, scope = self._snapshot.usable(pool), (demand.interface, demand.family, pool)
        released = self._released_address(usable, pool)
        # superseded: an older Pod of the same name held the address, so the ADD tries it last.
        if released and self._claim_plan.why != "superseded":
            return Trial(*scope, first=released)
        search = Search(usable, order="spread", seed=f"{self._holder} {demand.interface}")
        value = search.next(avoid=())
        if value is None:
            return Trial(*scope, first="")
        first = Address(demand.family, value)
        obstacle = await self._limit.refusal(pool, usable)
        if obstacle:
            return Trial(*scope, first="", obstacle=obstacle, then=released)
        obstacle = await self._obstacle(first)
        if not obstacle:
            return Trial(*scope, first=str(first))
        avoid = {taken.value for taken in self._interface_of if taken.family == demand.family}
        free = await self._finder.find(search, avoid)
        then = released if free is None else str(Address(demand.family, free.value))
        return Trial(*scope, first=str(first), obstacle=obstacle, then=then)

    def _released_address(self, usable: AddressSet, pool: str) -> str:
        """An address that the ADD itself releases and may claim again; "" for none."""
        for text, claimed_pool in self._claim_plan.ended:
            address = parse_address(text)
            is_free = address not in self._interface_of and address.value in usable
            if claimed_pool == pool and is_free:
                return text
        return ""

    async def _obstacle(self, address: Address) -> str:
        """Why an ADD would not get the address; "" if it would."""
        if address in self._interface_of:
            return f"goes to NIC {self._interface_of[address]}"
        gets = [Get(self._keys.ip(*address)), Get(self._keys.cool_down(*address))]
        claims, cool_downs = (answer.kvs for answer in (await self._store.read(gets)).ranges)
        if claims:
            claim = CLAIM_CODEC.decode(claims[0].value)
            return f"is held by {claim.namespace}/{claim.pod}"
        in_cool_down = bool(cool_downs) and cool_downs[0].value != self._holder.encode()
        return "is in cool-down" if in_cool_down else ""

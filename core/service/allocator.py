"""The ADD: from facts and a request to claimed addresses, in one transaction.

There is no read before it. The first try assumes that the endpoint does not exist and that the
address it picked is free. If the guards say otherwise, the failed transaction has already read the
truth about exactly those keys, and the next try knows it: the endpoint (a repeat, I7, or an older
Pod's), the addresses around the one that was taken, or that the pools have changed. A pool is
reported full only after a read of the truth. A failed request leaves nothing behind (I4).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from core.domain.addresses import Address, Family, format_address, parse_cidr
from core.domain.choice import AddressOrder, Search
from core.domain.claims import (
    Change,
    Need,
    Repeat,
    claim,
    decide_add,
    holder_of,
    moved_nics,
    unmet,
)
from core.domain.events import AddressesReleased, Cause, EndpointChanged
from core.domain.facts import Facts, PodFacts
from core.domain.model import Attachment, Endpoint, Nic, Pool
from core.domain.routes import distribute_routes, requested_routes
from core.domain.selection.reasoning import aggregate, bracketed, in_standard_mode, no_item_left
from core.domain.selection.request import (
    FAMILY_NAMES,
    Demand,
    Selection,
    SelectionRequest,
    SelectionSettings,
)
from core.domain.selection.select import candidates, select
from core.errors import AddressesUsedOut, AllocationError, LostRace, RetriesExhausted
from core.projections.configuration_view import ConfigurationView
from core.service.cooldown import CoolDown
from core.service.finding import Finder
from core.service.limits import RECORDS_MAX, RecordLimit
from core.service.proposals import (
    Choice,
    Seen,
    change_proposal,
    claim_proposal,
    release_in_claim,
)
from core.service.releaser import Releaser
from core.store.batch import Lost, Proposal
from core.store.codec import ENDPOINT, Draft
from core.store.keys import Keys
from core.store.kv import Guard, KeyValue, KeyValueStore, RangeResult, Unchanged
from core.store.retrying import racing
from core.store.writer import Writer


class AllocatorSettings(NamedTuple):
    """``records_max``: claims a pool may hold before it counts as full (0: no limit)."""

    order: AddressOrder = "spread"
    records_max: int = RECORDS_MAX
    selection: SelectionSettings = SelectionSettings()


class AddCall(NamedTuple):
    """One ADD: who asks, for which attachment, with which request."""

    facts: Facts
    attachment: Attachment
    request: SelectionRequest
    cause: Cause


class Added(NamedTuple):
    """The endpoint after the ADD; ``fresh``: this call claimed, in ``tries`` tries."""

    endpoint: Endpoint
    fresh: bool
    tries: int


class _Wanted(NamedTuple):
    """One address of a try, and the search it came from."""

    demand: Demand
    pool: str
    search: Search
    value: int
    rest_revision: int


class _Progress:
    """What one ADD has learnt over its tries."""

    __slots__ = ("call", "full", "rests", "searches", "seen", "selection", "tries")

    def __init__(self, call: AddCall) -> None:
        self.call = call
        self.seen = Seen()
        self.selection: Selection | None = None
        self.searches: dict[tuple[str, Family, str], Search] = {}
        self.full: dict[tuple[str, Family, str], str] = {}
        self.rests: dict[int, int] = {}
        self.tries = 0

    def forget_configuration(self) -> None:
        """Pools or reservations have changed: select and search anew."""
        self.selection = None
        self.searches.clear()
        self.full.clear()


class Allocator:
    """Claims addresses for Pods."""

    def __init__(
        self,
        store: KeyValueStore,
        keys: Keys,
        writer: Writer,
        view: ConfigurationView,
        releaser: Releaser,
        cooldown: CoolDown,
        settings: AllocatorSettings = AllocatorSettings(),
    ) -> None:
        self._keys = keys
        self._writer = writer
        self._view = view
        self._releaser = releaser
        self._cooldown = cooldown
        self._settings = settings
        self._finder = Finder(store, keys)
        self._limit = RecordLimit(self._finder, settings.records_max)
        self._claiming: dict[Family, set[int]] = {4: set(), 6: set()}

    async def add(self, call: AddCall) -> Added:
        """Claim what the request needs, or answer what its endpoint already has.

        Raises AllocationError and its kinds, StoreUnavailable, OutcomeUnknown, Overloaded,
        NotReady.
        """
        progress = _Progress(call)
        try:
            return await racing()(self._try, progress)
        except LostRace as error:
            raise RetriesExhausted(
                f"exhaust all retries ({progress.tries} times): {error.message}",
                subject=error.subject,
                remedy="others claim from the same pools at this moment; try again",
            ) from error

    async def _try(self, progress: _Progress) -> Added:
        progress.tries += 1
        call, seen = progress.call, progress.seen
        moved = self._moved(call, seen.endpoint)
        need = decide_add(call.facts.pod, call.attachment, seen.endpoint, moved=moved)
        if isinstance(need, Repeat):
            return Added(need.endpoint, fresh=False, tries=progress.tries)
        if isinstance(need, Change):
            return await self._change(progress, need.event)
        return await self._claim(progress, need)

    async def _change(self, progress: _Progress, event: EndpointChanged) -> Added:
        draft = Draft(self._writer.event_id(), progress.call.cause, event)
        proposal = change_proposal(self._keys, draft, progress.seen)
        outcome = await self._writer.append(proposal)
        if isinstance(outcome, Lost):
            raise self._learn_endpoint(progress, outcome)
        return Added(event.endpoint, fresh=False, tries=progress.tries)

    async def _claim(self, progress: _Progress, need: Need) -> Added:
        call = progress.call
        if progress.selection is None:
            progress.selection = await self._select(call)
        demands = unmet(progress.selection.demands, need.keep)
        if not demands:
            raise no_item_left(progress.selection)
        with self._holding() as mine:
            wanted = [await self._pick(progress, demand, mine) for demand in demands]
            event = claim(
                call.facts.pod, call.attachment, need.keep, self._nics(call.facts.pod, wanted)
            )
            draft = Draft(self._writer.event_id(), call.cause, event)
            outcome = await self._writer.append(
                claim_proposal(
                    self._keys,
                    draft,
                    progress.seen,
                    [_choice(one) for one in wanted],
                    self._configuration_guards(wanted),
                    await self._ending(progress, need),
                )
            )
        if isinstance(outcome, Lost):
            raise await self._learn(progress, wanted, outcome)
        return Added(event.endpoint, fresh=True, tries=progress.tries)

    async def _select(self, call: AddCall) -> Selection:
        """The pools to try; no is only said by a view that is as new as etcd."""
        try:
            return self._select_now(call)
        except AllocationError:
            if not await self._view.freshen():
                raise
            return self._select_now(call)

    def _select_now(self, call: AddCall) -> Selection:
        return select(call.request, call.facts, self._view.catalog, self._settings.selection)

    # Choosing

    async def _pick(self, progress: _Progress, demand: Demand, mine: set[Address]) -> _Wanted:
        """An address for one demand from the first of its pools that has one."""
        avoid = self._claiming[demand.family]
        for pool in demand.pools:
            place = (demand.interface, demand.family, pool)
            if place in progress.full:
                continue
            refusal = await self._limit.refusal(pool, self._view.usable(pool))
            if refusal:
                progress.full[place] = refusal
                continue
            search = self._search(progress, place)
            value = search.next(avoid)
            if value is None:
                found = await self._finder.find(search, avoid)
                if found is None:
                    self._check_siblings(search, avoid, pool)
                    progress.full[place] = AddressesUsedOut.sentinel
                    continue
                value = found.value
                progress.rests[value] = found.rest_revision
                search.offer(value)
            avoid.add(value)
            mine.add(Address(demand.family, value))
            return _Wanted(demand, pool, search, value, progress.rests.get(value, 0))
        raise _used_out(demand, progress)

    def _search(self, progress: _Progress, place: tuple[str, Family, str]) -> Search:
        search = progress.searches.get(place)
        if search is None:
            seed = f"{holder_of(progress.call.facts.pod)} {place[0]}"
            search = Search(self._view.usable(place[2]), self._settings.order, seed)
            progress.searches[place] = search
        return search

    def _check_siblings(self, search: Search, avoid: set[int], pool: str) -> None:
        """The last free addresses are being claimed by this process: wait for how that ends."""
        if any(value in search.usable for value in avoid):
            raise LostRace(f"the last addresses of {pool} are being claimed", subject=pool)

    @contextmanager
    def _holding(self) -> Iterator[set[Address]]:
        """Addresses of this try, kept from other requests of this process until it is over."""
        mine: set[Address] = set()
        try:
            yield mine
        finally:
            for family, value in mine:
                self._claiming[family].discard(value)

    # Building

    def _nics(self, pod: PodFacts, wanted: list[_Wanted]) -> list[Nic]:
        nics: dict[str, Nic] = {}
        for one in wanted:
            interface = one.demand.interface
            pool = self._view.pools[one.pool].pool
            nic = nics.get(interface) or Nic(interface, clean_gateway=one.demand.clean_gateway)
            nics[interface] = _with_address(nic, pool, one.value)
        pools = {one.pool: self._view.pools[one.pool].pool for one in wanted}
        return distribute_routes(list(nics.values()), pools, requested_routes(pod))

    async def _ending(self, progress: _Progress, need: Need) -> Proposal | None:
        """The claims that end together with the new one."""
        endpoint = progress.seen.endpoint
        if not need.give_up or endpoint is None:
            return None
        releases = await self._releaser.fences(need.give_up, endpoint.key)
        superseded = endpoint.holder != holder_of(progress.call.facts.pod)
        event = AddressesReleased(
            *endpoint.key,
            releases,
            need.keep,
            "superseded" if superseded else "pools-changed",
            f"Pod {progress.call.facts.pod.uid} asks for addresses under this name",
        )
        draft = Draft(self._writer.event_id(), progress.call.cause, event)
        return release_in_claim(self._keys, draft, await self._cooldown.lease())

    def _configuration_guards(self, wanted: list[_Wanted]) -> list[Guard]:
        guards: dict[Guard, None] = {}
        for one in wanted:
            held = self._view.pools[one.pool]
            guards[Unchanged(self._keys.pool(one.pool), held.revision)] = None
            topic = self._keys.guard("reservations", one.demand.family)
            guards[Unchanged(topic, self._view.guards.get(topic, 0))] = None
        return list(guards)

    def _moved(self, call: AddCall, endpoint: Endpoint | None) -> frozenset[int]:
        if endpoint is None or not call.facts.pod.fixed:
            return frozenset()
        named = candidates(call.request, call.facts, self._view.catalog, self._settings.selection)
        return moved_nics(endpoint, named, call.request)

    # Learning

    def _learn_endpoint(self, progress: _Progress, lost: Lost) -> LostRace:
        key = progress.call.facts.pod.endpoint_key
        found = lost.truth[self._keys.endpoint(*key)]
        progress.seen = (
            Seen() if found is None else Seen(ENDPOINT.decode(found.value), found.mod_revision)
        )
        return LostRace(f"endpoint {key[0]}/{key[1]} is there already", subject="/".join(key))

    async def _learn(self, progress: _Progress, wanted: list[_Wanted], lost: Lost) -> LostRace:
        """Take in what the failed transaction has read; the answer is raised by the caller."""
        error = self._learn_endpoint(progress, lost)
        for index, one in enumerate(wanted):
            self._learn_window(one, lost.reads[1 + 2 * index], lost.reads[2 + 2 * index])
        stale = [one.pool for one in wanted if self._is_stale(one, lost)]
        if stale:
            progress.forget_configuration()
            await self._view.wait_for(lambda: not any(self._is_stale(one, lost) for one in wanted))
            return LostRace("the configuration changed", subject=stale[0])
        return (
            error
            if progress.seen.endpoint
            else LostRace("addresses were taken", subject=wanted[0].pool)
        )

    def _learn_window(self, one: _Wanted, claims: RangeResult, rests: RangeResult) -> None:
        taken = [self._keys.address_in(kv.key).value for kv in (*claims.kvs, *rests.kvs)]
        last = one.search.window_after(one.value)[1]
        for answer in (claims, rests):
            if answer.more:
                last = min(last, self._keys.address_in(answer.kvs[-1].key).value)
        one.search.learn(one.value, last, taken)

    def _is_stale(self, one: _Wanted, lost: Lost) -> bool:
        """The view does not show yet what the transaction found."""
        held = self._view.pools.get(one.pool)
        pool_now = lost.truth[self._keys.pool(one.pool)]
        topic = self._keys.guard("reservations", one.demand.family)
        topic_now = lost.truth[topic]
        family, value = one.demand.family, one.value
        quarantined = lost.truth[self._keys.quarantine(family, value)]
        return (
            _revision(pool_now) != (held.revision if held else 0)
            or _revision(topic_now) > self._view.guards.get(topic, 0)
            or (
                quarantined is not None
                and format_address(family, value) not in self._view.quarantine
            )
        )


def _used_out(demand: Demand, progress: _Progress) -> AllocationError:
    """Every pool of the demand is full: which, and what would help (spec/ipam.md 1.6, 1.9)."""
    reasons = [progress.full[demand.interface, demand.family, pool] for pool in demand.pools]
    family = FAMILY_NAMES[demand.family]
    error = AddressesUsedOut(
        f"failed to allocate any {family} IP address to NIC {demand.interface}"
        f" from IPPools {bracketed(demand.pools)}: {aggregate(reasons)}",
        subject=" ".join(demand.pools),
        remedy="extend one of these pools, or let the Pod use another one",
    )
    return in_standard_mode(error)


def _revision(found: KeyValue | None) -> int:
    return 0 if found is None else found.mod_revision


def _with_address(nic: Nic, pool: Pool, value: int) -> Nic:
    cidr = f"{format_address(pool.family, value)}/{parse_cidr(pool.subnet).prefix_length}"
    if pool.family == 4:
        return nic._replace(ipv4=cidr, ipv4_pool=pool.name, ipv4_gateway=pool.gateway)
    return nic._replace(ipv6=cidr, ipv6_pool=pool.name, ipv6_gateway=pool.gateway)


def _choice(one: _Wanted) -> Choice:
    last = one.search.window_after(one.value)[1]
    return Choice(Address(one.demand.family, one.value), last, one.rest_revision)

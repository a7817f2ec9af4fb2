"""The tries of one ADD on one snapshot of the configuration.

Choices and guards use the same snapshot: the guards have the revisions on which a choice was made.
The attempt ends when a guard shows that the configuration has changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import NamedTuple

from core.allocation.address_finder import Finder, FreeAddress
from core.allocation.allocation_limit import RecordLimit
from core.allocation.claims_in_flight import AddressesBeingClaimed
from core.allocation.free_addresses import FreeAddresses, TakeResult
from core.allocation.proposals import AddressChoice, window_reads
from core.domain.addresses.choice import AddressOrder, Search
from core.domain.addresses.ip_address import Address, AddressSyntaxError, Family, parse_address
from core.domain.addresses.routes import distribute_routes
from core.domain.claims.assignment import nic_with_addresses
from core.domain.events import PoolVerdict, Release
from core.domain.model import Nic
from core.domain.selection.error_texts import FREE_ADDRESS_RULE, used_out, with_standard_mode_prefix
from core.domain.selection.pool_selection import first_rejections
from core.domain.selection.selection_request import CandidateVerdict, Demand, Selection
from core.errors import AddressesUsedOut, AllocationError, LogCorrupt, LostRace
from core.eventstore.group_commit import Lost
from core.eventstore.keys import COOL_DOWN_PREFIX, Keys
from core.eventstore.kv import Get, RangeResult
from core.projections.configuration_view import ConfigurationSnapshot

SearchKey = tuple[str, Family, str]
"""(interface, family, pool)."""


class PickedAddress(NamedTuple):
    """An address of a try. ``is_listed``: it comes from the pool's list."""

    demand: Demand
    pool: str
    search: Search
    choice: AddressChoice
    is_listed: bool = False

    @property
    def window_last(self) -> int:
        """The last address of the window that is read after a lost race."""
        value = self.choice.address.value
        return value if self.is_listed else self.search.window_last(value)


class AttemptConstraints(NamedTuple):
    """What a try must not pick, and what it may take over.

    ``claiming``: addresses that requests of this process are claiming, this try included.
    ``picked``: addresses that this try has picked. ``ending``: older claims that end with this try.
    The try takes over their addresses first if ``is_same_holder``; else last, because the sandbox
    of an older Pod may still use them.
    """

    claiming: AddressesBeingClaimed
    picked: Sequence[PickedAddress] = ()
    ending: Sequence[Release] = ()
    is_same_holder: bool = False

    def has_picked(self, address: Address) -> bool:
        """Whether this try has picked the address."""
        return any(other.choice.address == address for other in self.picked)

    def is_ending(self, address: Address) -> bool:
        """Whether the claim of the address ends with this try."""
        text = str(address)
        return any(claim.address == text for claim in self.ending)


class AddressSources(NamedTuple):
    """Where a try finds addresses."""

    free: FreeAddresses
    finder: Finder
    limit: RecordLimit


class AllocationAttempt:
    """Tries of one ADD on one snapshot.

    ``listed``: as in ``ClaimPlan``. ``seed``: the holder of the claims.
    ``_own_marks``: revisions of the cool-down marks of this holder, who may ignore them.
    """

    __slots__ = (
        "_full",
        "_keys",
        "_order",
        "_own_marks",
        "_searches",
        "_seed",
        "listed",
        "selection",
        "snapshot",
    )

    def __init__(
        self,
        keys: Keys,
        snapshot: ConfigurationSnapshot,
        selection: Selection,
        order: AddressOrder,
        seed: str,
        listed: tuple[Nic, ...] = (),
    ) -> None:
        self.snapshot = snapshot
        self.selection = selection
        self.listed = listed
        self._keys = keys
        self._order = order
        self._seed = seed
        self._searches: dict[SearchKey, Search] = {}
        self._full: dict[SearchKey, str] = {}
        self._own_marks: dict[Address, int] = {}

    async def pick(
        self, demand: Demand, constraints: AttemptConstraints, sources: AddressSources
    ) -> PickedAddress:
        """Pick an address from the first of the demand's pools that has one.

        Raises StoreUnavailable; AddressesUsedOut if reads have shown that all pools are full;
        LostRace if other requests of this process are claiming the last addresses.
        """
        taken_over = self._take_over(demand, constraints) if constraints.ending else None
        if taken_over is not None and constraints.is_same_holder:
            return taken_over
        for pool in demand.pools:
            key = (demand.interface, demand.family, pool)
            if key in self._full:
                continue
            search = self._allowed_search(key, sources.limit)
            if search is None:
                refusal = await self._refusal(pool, sources.limit)
                if refusal:
                    self._full[key] = refusal
                    continue
                search = self._search(key)
            picked = self._pick_without_read(demand, pool, search, constraints, sources.free)
            if picked is None:
                picked = await self._pick_after_read(demand, pool, search, constraints, sources)
            if picked is not None:
                return picked
            self._full[key] = AddressesUsedOut.sentinel
        if taken_over is not None:
            return taken_over
        raise self._used_out(demand)

    def nics(self, picked: Sequence[PickedAddress]) -> list[Nic]:
        """The NICs with addresses, gateways and routes, in the order of the selection."""
        assigned = [
            (address.demand.interface, address.pool, address.choice.address) for address in picked
        ]
        for nic in self.listed:
            for text, pool in nic.addresses():
                assigned.append((nic.interface, pool, parse_address(text)))
        pools = {pool: self.snapshot.pools[pool].pool for _, pool, _ in assigned}
        nics: list[Nic] = []
        for item in self.selection.nics:
            addresses = [
                (pools[pool], address.value)
                for interface, pool, address in assigned
                if interface == item.interface
            ]
            if addresses:
                nics.append(
                    nic_with_addresses(item.interface, addresses, clean_gateway=item.clean_gateway)
                )
        requested = self.selection.routes
        if not requested and not any(pool.routes for pool in pools.values()):
            return nics
        return distribute_routes(nics, pools, requested)

    def passed_over(self) -> tuple[PoolVerdict, ...]:
        """The candidate pools that a rule rejected or that are full."""
        if not self._full:
            return self.selection.passed_over
        return first_rejections(map(self._final_verdict, self.selection.verdicts))

    def learn(self, picked: Iterable[PickedAddress], lost: Lost, free: FreeAddresses) -> None:
        """Store what the lost transaction has read, for the next try."""
        for address in picked:
            is_taken = lost.current[self._keys.ip(*address.choice.address)] is not None
            if address.is_listed or is_taken:
                free.record_lost_race(address.pool, lost.revision, is_listed=address.is_listed)
            claims, marks = self._window(address)
            self._learn_window(address, lost.reads[claims], lost.reads[marks])

    def reads(self, picked: Iterable[PickedAddress]) -> list[Get]:
        """What a transaction reads if it loses a race: the window of each picked address."""
        return [get for address in picked for get in self._window(address)]

    def is_current(
        self, snapshot: ConfigurationSnapshot, picked: Iterable[PickedAddress], lost: Lost
    ) -> bool:
        """Whether the snapshot is as new as the configuration that the transaction read."""
        return all(self._is_current_for(snapshot, address, lost) for address in picked)

    def _window(self, picked: PickedAddress) -> tuple[Get, Get]:
        return window_reads(self._keys, picked.choice.address, picked.window_last)

    def _allowed_search(self, key: SearchKey, limit: RecordLimit) -> Search | None:
        """None if claims must be counted or the pool cannot be decoded."""
        try:
            search = self._search(key)
        except (AddressSyntaxError, LogCorrupt):
            return None
        _, _, pool = key
        return search if limit.allows(pool, search.size) else None

    async def _refusal(self, pool: str, limit: RecordLimit) -> str:
        """Why no address of the pool may be claimed; "" if a claim is allowed."""
        try:
            return await limit.refusal(pool, self.snapshot.usable(pool))
        except AddressSyntaxError as error:  # edited by hand: the ADD continues with other pools
            return f"IPPool {pool} cannot be decoded: {error}"
        except LogCorrupt as error:
            return error.message

    def _search(self, key: SearchKey) -> Search:
        search = self._searches.get(key)
        if search is None:
            interface, _, pool = key
            usable = self.snapshot.usable(pool)
            search = Search(usable, self._order, f"{self._seed} {interface}")
            self._searches[key] = search
        return search

    def _take_over(self, demand: Demand, constraints: AttemptConstraints) -> PickedAddress | None:
        for pool in demand.pools:
            for claim in constraints.ending:
                address = parse_address(claim.address)
                is_of_pool = (claim.pool, address.family) == (pool, demand.family)
                if not is_of_pool or constraints.has_picked(address):
                    continue
                with suppress(AddressSyntaxError):  # ``_refusal`` reports this pool
                    search = self._search((demand.interface, demand.family, pool))
                    if address.value in search.usable:
                        choice = AddressChoice(address, claim_revision=claim.claim_revision)
                        return PickedAddress(demand, pool, search, choice)
        return None

    def _pick_without_read(
        self,
        demand: Demand,
        pool: str,
        search: Search,
        constraints: AttemptConstraints,
        free: FreeAddresses,
    ) -> PickedAddress | None:
        avoid = constraints.claiming.values[demand.family]
        # With sequential order no list is used: a list may lack the lowest free address.
        uses_list = self._order == "spread" and free.count_pick(pool)
        if search.has_preferred_address or not uses_list:
            value = search.next(avoid)
            if value is not None:
                address = Address(demand.family, value)
                if not (constraints.ending and constraints.is_ending(address)):
                    choice = AddressChoice(address, self._own_marks.get(address, 0))
                    return PickedAddress(demand, pool, search, choice)
        from_list = free.take(pool, search.usable, avoid) if uses_list else None
        return from_list and self._picked(demand, pool, search, from_list)

    async def _pick_after_read(
        self,
        demand: Demand,
        pool: str,
        search: Search,
        constraints: AttemptConstraints,
        sources: AddressSources,
    ) -> PickedAddress | None:
        free = await self._find(search, constraints, sources, pool)
        return free and self._picked(demand, pool, search, free)

    def _picked(
        self, demand: Demand, pool: str, search: Search, free: FreeAddress
    ) -> PickedAddress:
        choice = AddressChoice(Address(demand.family, free.value), free.cool_down_revision)
        return PickedAddress(demand, pool, search, choice, is_listed=self._order == "spread")

    async def _find(
        self, search: Search, constraints: AttemptConstraints, sources: AddressSources, pool: str
    ) -> FreeAddress | None:
        family = search.usable.family
        avoid = constraints.claiming.values[family]
        if self._order == "spread":
            taken = await sources.free.read_and_take(pool, search.usable, avoid)
        else:
            # ``find`` does not report ``passed_over``: assume that it passed over addresses.
            taken = TakeResult(await sources.finder.find(search, avoid), passed_over=True)
        if taken.address is not None or not taken.passed_over:
            return taken.address
        picked = {
            other.choice.address.value
            for other in constraints.picked
            if other.demand.family == family
        }
        if await sources.finder.find(search, picked) is not None:
            # The requests that are claiming the last free addresses may still fail.
            await constraints.claiming.next_end()
            raise LostRace(
                f"the last free addresses of IPPool {pool} are being claimed", subject=pool
            )
        return None

    def _learn_window(self, picked: PickedAddress, claims: RangeResult, marks: RangeResult) -> None:
        address, last = picked.choice.address, picked.window_last
        taken: list[int] = []
        for prefix, result in (("ip", claims), (COOL_DOWN_PREFIX, marks)):
            addresses = self._keys.addresses_in((kv.key for kv in result.kvs), prefix)
            values = [address_in_use.value for address_in_use in addresses]
            taken += values
            if result.more:
                last = min(last, values[-1] if values else address.value)
        picked.search.learn(address.value, last, taken)
        self._own_marks.pop(address, None)
        self._prefer_previous_address(picked.search, marks)

    def _prefer_previous_address(self, search: Search, marks: RangeResult) -> None:
        """Prefer the holder's previous address, which is in cool-down only for other holders."""
        for mark in marks.kvs:
            if mark.value != self._seed.encode():
                continue
            for address in self._keys.addresses_in([mark.key], COOL_DOWN_PREFIX):
                if address.value in search.usable:
                    self._own_marks[address] = mark.mod_revision
                    search.prefer(address.value)
                    return

    def _is_current_for(
        self, snapshot: ConfigurationSnapshot, picked: PickedAddress, lost: Lost
    ) -> bool:
        pool = snapshot.pools.get(picked.pool)
        stored_pool = lost.current[self._keys.pool(picked.pool)]
        if stored_pool is None:
            return pool is None or pool.revision > lost.revision
        reservations = self._keys.guard("reservations", picked.demand.family)
        stored_reservations = lost.current[reservations]
        quarantined = lost.current[self._keys.quarantine(*picked.choice.address)] is not None
        pool_or_undecodable = pool or snapshot.undecodable.get(f"pool/{picked.pool}")
        revision = pool_or_undecodable.revision if pool_or_undecodable is not None else 0
        return (
            revision >= stored_pool.mod_revision
            and (
                stored_reservations is None
                or snapshot.guards.get(reservations, 0) >= stored_reservations.mod_revision
            )
            and (not quarantined or str(picked.choice.address) in snapshot.quarantine)
        )

    def _used_out(self, demand: Demand) -> AllocationError:
        reasons = [self._full[demand.interface, demand.family, pool] for pool in demand.pools]
        verdicts = tuple(map(self._final_verdict, self.selection.verdicts))
        return with_standard_mode_prefix(used_out(demand, reasons, verdicts), self.selection.source)

    def _final_verdict(self, verdict: CandidateVerdict) -> CandidateVerdict:
        reason = self._full.get((verdict.interface, verdict.family, verdict.pool))
        if reason is None:
            return verdict
        return verdict._replace(accepted=False, rule=FREE_ADDRESS_RULE, reason=reason)

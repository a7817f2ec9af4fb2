"""One round of an ADD: a decision on one snapshot of the configuration, and what its tries teach.

Selection, choice and guards of a round use the same snapshot; mixing two would guard a decision
with revisions it was not made on (I2). A round ends when a guard shows that the configuration has
changed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Container, Iterable, Sequence
from contextlib import suppress
from typing import NamedTuple

from core.allocation.address_finder import Finder, FreeAddress
from core.allocation.free_addresses import FreeAddresses, Taken
from core.allocation.proposals import AddressChoice, claim_window, configuration_guards, rest_window
from core.allocation.record_limit import RecordLimit
from core.domain.addresses.choice import AddressOrder, Search
from core.domain.addresses.ip_address import Address, AddressSyntaxError, Family, parse_address
from core.domain.addresses.routes import distribute_routes
from core.domain.claims.assignment import with_address
from core.domain.events import Release
from core.domain.model import Nic
from core.domain.selection.explanation import aggregate, bracketed, in_standard_mode
from core.domain.selection.request import FAMILY_NAMES, Demand, Selection
from core.errors import AddressesUsedOut, AllocationError, LogCorrupt, LostRace
from core.eventstore.batch import Lost
from core.eventstore.keys import Keys
from core.eventstore.kv import Guard, RangeResult
from core.projections.configuration_view import ConfigurationSnapshot

Place = tuple[str, Family, str]
"""(interface, family, pool): where an address is looked for."""


class WantedAddress(NamedTuple):
    """One address of a try, and the search it came from.

    ``is_listed``: it was read to be free, so that a failed try need not read what is around it.
    """

    demand: Demand
    pool: str
    search: Search
    value: int
    rest_revision: int
    claim_revision: int = 0
    is_listed: bool = False

    @property
    def address(self) -> Address:
        """The address wanted."""
        return Address(self.demand.family, self.value)

    def choice(self) -> AddressChoice:
        """What the transaction needs to know of it."""
        return AddressChoice(
            self.address, self.window_last, self.rest_revision, self.claim_revision
        )

    @property
    def window_last(self) -> int:
        """Where a failed try has read up to."""
        return self.value if self.is_listed else self.search.window_last(self.value)


class AttemptConstraints(NamedTuple):
    """What one try may not take, and what it may take over.

    ``avoid``: addresses that requests of this process are claiming, ``own``: this try's among them.
    ``sibling_ends`` waits until one of these requests has an answer.
    ``ending``: the claims that end with this try. Their addresses are free for it alone, and with
    ``is_same_holder`` better than any other; else an older Pod's sandbox may still use them, so
    that they come last.
    """

    avoid: Container[int]
    own: Container[int]
    sibling_ends: Callable[[], Awaitable[None]]
    ending: Sequence[Release] = ()
    is_same_holder: bool = False


class AddressSources(NamedTuple):
    """Where a round's choice may look: lists, the truth, and the bound of records in a pool."""

    free: FreeAddresses
    finder: Finder
    limit: RecordLimit


class AllocationAttempt:
    """Tries of one ADD on one snapshot. ``listed`` is what the Pod keeps (``claims.Need``)."""

    __slots__ = (
        "_full",
        "_keys",
        "_order",
        "_rests",
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
        self._searches: dict[Place, Search] = {}
        self._full: dict[Place, str] = {}
        self._rests: dict[Address, int] = {}

    async def pick(
        self, demand: Demand, scene: AttemptConstraints, sources: AddressSources
    ) -> WantedAddress:
        """An address from the first of the demand's pools that has one.

        Raises AddressesUsedOut (exact: every pool was read), LostRace when that is not known yet,
        StoreUnavailable.
        """
        taken_over = self._take_over(demand, scene)
        if taken_over is not None and scene.is_same_holder:
            return taken_over
        for pool in demand.pools:
            place = (demand.interface, demand.family, pool)
            if place in self._full:
                continue
            if not self._is_allowed(pool, sources.limit):
                refusal = await self._refusal(pool, sources.limit)
                if refusal:
                    self._full[place] = refusal
                    continue
            wanted = await self._choose(demand, pool, scene, sources)
            if wanted is not None:
                return wanted
            self._full[place] = AddressesUsedOut.sentinel
        if taken_over is not None:
            return taken_over
        raise self._used_out(demand)

    def guards(self, wanted: Iterable[WantedAddress]) -> list[Guard]:
        """The pools and reservations that the choice rests on, as this round saw them."""
        used = ((one.pool, one.demand.family) for one in wanted)
        return configuration_guards(self._keys, self.snapshot, used)

    def nics(self, wanted: Sequence[WantedAddress]) -> list[Nic]:
        """The NICs with their addresses, gateways and routes, in the user's order."""
        placed = [(one.demand.interface, one.pool, one.value) for one in wanted]
        for kept in self.listed:
            for address, pool in kept.addresses():
                placed.append((kept.interface, pool, parse_address(address).value))
        pools = {pool: self.snapshot.pools[pool].pool for _, pool, _ in placed}
        nics: list[Nic] = []
        for named in self.selection.nics:
            nic = Nic(named.interface, clean_gateway=named.clean_gateway)
            for interface, pool, value in placed:
                if interface == named.interface:
                    nic = with_address(nic, pools[pool], value)
            if nic.ipv4 or nic.ipv6:
                nics.append(nic)
        return distribute_routes(nics, pools, self.selection.routes)

    def learn(self, wanted: Iterable[WantedAddress], lost: Lost, free: FreeAddresses) -> None:
        """Take in what a failed transaction has read of each address and its window."""
        for one in wanted:
            if one.is_listed or lost.truth[self._keys.ip(*one.address)] is not None:
                free.lost(one.pool, lost.revision, is_listed=one.is_listed)
            choice = one.choice()
            claims = lost.reads[claim_window(self._keys, choice)]
            self._learn_window(one, claims, lost.reads[rest_window(self._keys, choice)])

    def is_outdated(self, wanted: Iterable[WantedAddress], lost: Lost) -> bool:
        """Whether the transaction found another configuration than this round's snapshot."""
        return not all(self._is_shown(self.snapshot, one, lost) for one in wanted)

    def is_overtaken(
        self, newest: ConfigurationSnapshot, wanted: Iterable[WantedAddress], lost: Lost
    ) -> bool:
        """Whether ``newest`` shows everything that the transaction found."""
        return all(self._is_shown(newest, one, lost) for one in wanted)

    def _is_allowed(self, pool: str, limit: RecordLimit) -> bool:
        """Whether nothing has to be read; where the pool cannot be read, ``_refusal`` says why."""
        try:
            return limit.allows(pool, self.snapshot.usable(pool))
        except (AddressSyntaxError, LogCorrupt):
            return False

    async def _refusal(self, pool: str, limit: RecordLimit) -> str:
        try:
            return await limit.refusal(pool, self.snapshot.usable(pool))
        except AddressSyntaxError as error:  # written past every rule: this pool fails, not the ADD
            return f"IPPool {pool} cannot be read: {error}"
        except LogCorrupt as error:
            return error.message

    def _search(self, place: Place) -> Search:
        search = self._searches.get(place)
        if search is None:
            usable = self.snapshot.usable(place[2])
            search = Search(usable, self._order, f"{self._seed} {place[0]}")
            self._searches[place] = search
        return search

    def _take_over(self, demand: Demand, scene: AttemptConstraints) -> WantedAddress | None:
        """An address of these pools whose claim ends with this try."""
        if not scene.ending:
            return None
        for pool in demand.pools:
            for one in scene.ending:
                family, value = parse_address(one.address)
                if (one.pool, family) != (pool, demand.family) or value in scene.own:
                    continue
                with suppress(AddressSyntaxError):  # this pool cannot be read: ``_refusal``
                    search = self._search((demand.interface, demand.family, pool))
                    if value in search.usable:
                        return WantedAddress(demand, pool, search, value, 0, one.claim_revision)
        return None

    def _known_free(self, search: Search, scene: AttemptConstraints) -> int | None:
        """What the search names without a read; a claim that ends with this try is still there."""
        value = search.next(scene.avoid)
        if value is None or not scene.ending:
            return value
        address = str(Address(search.usable.family, value))
        return None if any(one.address == address for one in scene.ending) else value

    async def _choose(
        self, demand: Demand, pool: str, scene: AttemptConstraints, sources: AddressSources
    ) -> WantedAddress | None:
        """An address of this pool; None: when it was read, none could be had."""
        search, free = self._search((demand.interface, demand.family, pool)), sources.free
        is_spread = self._order == "spread"  # sequential order promises the lowest free address
        uses_list = is_spread and free.is_listed(pool)
        if search.has_offer or not uses_list:
            value = self._known_free(search, scene)
            if value is not None:
                rest = self._rests.get(Address(demand.family, value), 0)
                return WantedAddress(demand, pool, search, value, rest)
        found = free.take(pool, search.usable, scene.avoid) if uses_list else None
        if found is None:
            found = await self._find(search, scene, sources, pool)
        return found and WantedAddress(demand, pool, search, *found, is_listed=is_spread)

    async def _find(
        self, search: Search, scene: AttemptConstraints, sources: AddressSources, pool: str
    ) -> FreeAddress | None:
        """An address by a read of the truth. Raises StoreUnavailable, LostRace."""
        if self._order == "spread":
            taken = await sources.free.read_and_take(pool, search.usable, scene.avoid)
        else:
            taken = Taken(await sources.finder.find(search, scene.avoid), passed_over=True)
        if taken.found is not None or not taken.passed_over:
            return taken.found
        if await sources.finder.find(search, scene.own) is not None:
            # Only siblings in this process stand in the way, and how their claims end is open.
            await scene.sibling_ends()
            raise LostRace(f"the last addresses of {pool} are being claimed", subject=pool)
        return None

    def _learn_window(self, one: WantedAddress, claims: RangeResult, rests: RangeResult) -> None:
        last = one.window_last
        taken: list[int] = []
        for room, answer in (("ip", claims), ("rest", rests)):
            found = self._keys.addresses_in((kv.key for kv in answer.kvs), room)
            values = [address.value for address in found]
            taken += values
            if answer.more:
                last = min(last, values[-1] if values else one.value)
        one.search.learn(one.value, last, taken)
        self._rests.pop(one.address, None)
        self._prefer_own(one.search, rests)

    def _prefer_own(self, search: Search, rests: RangeResult) -> None:
        """What the holder had before comes first: it rests for the sake of others."""
        for mark in rests.kvs:
            if mark.value != self._seed.encode():
                continue
            for address in self._keys.addresses_in([mark.key], "rest"):
                if address.value in search.usable:
                    self._rests[address] = mark.mod_revision
                    search.offer(address.value)
                    return

    def _is_shown(self, snapshot: ConfigurationSnapshot, one: WantedAddress, lost: Lost) -> bool:
        held = snapshot.pools.get(one.pool)
        pool_now = lost.truth[self._keys.pool(one.pool)]
        if pool_now is None:
            return held is None or held.revision > lost.revision
        topic = self._keys.guard("reservations", one.demand.family)
        topic_now = lost.truth[topic]
        quarantined = lost.truth[self._keys.quarantine(*one.address)] is not None
        unread = snapshot.unread.get(f"pool/{one.pool}")
        seen_at = held.revision if held is not None else unread.revision if unread else 0
        return (
            seen_at >= pool_now.mod_revision
            and (topic_now is None or snapshot.guards.get(topic, 0) >= topic_now.mod_revision)
            and (not quarantined or str(one.address) in snapshot.quarantine)
        )

    def _used_out(self, demand: Demand) -> AllocationError:
        """Every pool of the demand is full: which, and what would help.

        See docs/reference/pool-selection.md, "Trying pools" and "Error texts".
        """
        reasons = [self._full[demand.interface, demand.family, pool] for pool in demand.pools]
        family = FAMILY_NAMES[demand.family]
        error = AddressesUsedOut(
            f"failed to allocate any {family} IP address to NIC {demand.interface}"
            f" from IPPools {bracketed(demand.pools)}: {aggregate(reasons)}",
            subject=" ".join(demand.pools),
            remedy="extend one of these pools, or let the Pod use another one",
        )
        return in_standard_mode(error)

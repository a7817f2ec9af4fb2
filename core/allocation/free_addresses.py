"""Lists of free addresses, for pools that are nearly full or in which many agents claim.

One read (``Finder``) serves all waiting requests of this process. A list is only a hint: the guards
of the transaction decide. Only a read that began after the request proves that a pool is full.
Claims are not watched: each agent would receive every allocation of every pool.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Container
from typing import Final, NamedTuple

from core.allocation.address_finder import Finder, FreeAddress
from core.domain.addresses.address_set import AddressSet
from core.domain.addresses.choice import is_scarce, spread_index
from core.domain.addresses.ip_address import parse_address
from core.domain.events import Release
from core.errors import LostRace
from core.process.concurrency import SharedWork

SCARCE_S: Final = 60.0
"""The time for which a pool counts as nearly full after a read has found few free addresses."""

CONTENDED_S: Final = 1.0
"""The time for which a pool counts as contended after its last lost race."""

LOSSES_MIN: Final = 3
"""Lost races after which a pool counts as contended: they cost as much as one read.

The count starts anew after ``CONTENDED_S`` without a lost race. Lost races for listed addresses do
not count.
"""

CONTENDED_PICKS: Final = 100
"""Picks after which lost races are counted anew."""

READS_MAX: Final = 8
"""Reads of one request. It fails if other requests take all addresses of each read."""

ADDRESSES_MAX: Final = 1_024
"""Addresses in one list. A further address replaces the first."""

POOLS_MAX: Final = 256
"""Pools with a list. The list of a further pool replaces the oldest list."""


class TakeResult(NamedTuple):
    """The result of a read. ``address`` None: there is no free address that may be taken.

    ``passed_over``: as in ``FreeRead``.
    """

    address: FreeAddress | None
    passed_over: bool


class _Read(NamedTuple):
    any_found: bool
    passed_over: bool


class _PoolList:
    """The list of one pool as of ``revision``, used without another read until ``used_until``.

    ``losses``: lost races for addresses picked without a read, among the last ``picks`` picks.
    """

    __slots__ = (
        "addresses", "losses", "lost_at", "picks", "read_lock", "reads", "revision",
        "used_until",
    )  # fmt: skip

    def __init__(self) -> None:
        self.addresses: deque[FreeAddress] = deque(maxlen=ADDRESSES_MAX)
        self.revision = 0
        self.used_until = float("-inf")
        self.picks = 0
        self.losses = 0
        self.lost_at = float("-inf")
        self.reads = 0
        self.read_lock = asyncio.Lock()


class FreeAddresses:
    """The lists of one process.

    ``name``: the writer's name. Lists of different writers start at different addresses.
    """

    def __init__(self, finder: Finder, name: str, monotonic: Callable[[], float]) -> None:
        self._finder = finder
        self._name = name
        self._monotonic = monotonic
        self._pools: dict[str, _PoolList] = {}
        self._reads: SharedWork[tuple[str, int, AddressSet], _Read] = SharedWork()

    def count_pick(self, pool: str) -> bool:
        """Count one pick in the pool. Returns whether to use the pool's list."""
        pool_list = self._pools.get(pool)
        if pool_list is None:
            return False
        pool_list.picks += 1
        return self._is_used(pool_list)

    def take(self, pool: str, usable: AddressSet, avoid: Container[int]) -> FreeAddress | None:
        """Remove and return the next free address of the list; None if the list is empty.

        None also if the next address is in cool-down: ``read_and_take`` may find a free address.
        """
        pool_list = self._pools.get(pool)
        if pool_list is None or (pool_list.addresses and pool_list.addresses[0].cool_down_revision):
            return None
        return _next(pool_list, usable, avoid)

    async def read_and_take(
        self, pool: str, usable: AddressSet, avoid: Container[int]
    ) -> TakeResult:
        """Read the pool, and take an address; one in cool-down only if no address is free.

        Raises StoreUnavailable, and LostRace if other requests of this process have taken all
        addresses that were read.
        """
        pool_list = self._pool(pool)
        for _ in range(READS_MAX):
            # The key has the number of begun reads: never join a read that has already begun.
            read_key = pool, pool_list.reads, usable
            read = await self._reads.join(
                read_key, lambda: self._read(pool, pool_list, usable, avoid)
            )
            address = _next(pool_list, usable, avoid)
            if address is not None or not read.any_found:
                return TakeResult(address, read.passed_over)
        raise LostRace(f"the last free addresses of IPPool {pool} are being claimed", subject=pool)

    def record_lost_race(self, pool: str, revision: int, *, is_listed: bool) -> None:
        """Record that another agent had claimed the picked address at ``revision``.

        ``is_listed``: the address was from the list. A list older than ``revision`` is emptied.
        """
        pool_list, now = self._pool(pool), self._monotonic()
        if is_listed and pool_list.revision < revision:
            pool_list.addresses.clear()
        if now - pool_list.lost_at > CONTENDED_S or pool_list.picks > CONTENDED_PICKS:
            pool_list.losses = pool_list.picks = 0
        pool_list.losses += not is_listed
        pool_list.lost_at = now
        if pool_list.losses >= LOSSES_MIN:
            pool_list.losses = pool_list.picks = 0
            pool_list.used_until = max(pool_list.used_until, now + CONTENDED_S)

    def add_released(self, release: Release) -> None:
        """Add an address that this process has released without a cool-down."""
        pool_list = self._pools.get(release.pool)
        if pool_list is not None and self._is_used(pool_list):
            pool_list.addresses.append(FreeAddress(parse_address(release.address).value))

    def _is_used(self, pool_list: _PoolList) -> bool:
        return self._monotonic() <= pool_list.used_until

    async def _read(
        self, pool: str, pool_list: _PoolList, usable: AddressSet, avoid: Container[int]
    ) -> _Read:
        async with pool_list.read_lock:
            pool_list.reads += 1
            seed = f"{self._name} {pool} {pool_list.reads}"
            start = spread_index(seed, usable.size) if usable else 0
            free = await self._finder.free(usable, start, avoid)
            addresses, passed_over = [FreeAddress(value) for value in free.values], free.passed_over
            if not addresses:
                cooling_down = await self._finder.cooling_down(usable, avoid, free.revision)
                addresses = [*cooling_down.addresses]
                passed_over = passed_over or cooling_down.passed_over
            pool_list.revision = free.revision
            pool_list.addresses.clear()
            pool_list.addresses.extend(addresses)
            now = self._monotonic()
            is_contended = now - pool_list.lost_at <= CONTENDED_S
            # Addresses in cool-down stay oldest first, unless the pool is contended.
            if addresses and (free.values or is_contended):
                pool_list.addresses.rotate(-spread_index(seed, len(addresses)))
            if is_scarce(free.estimated_count, usable.size):
                pool_list.used_until = now + SCARCE_S
            return _Read(bool(addresses), passed_over)

    def _pool(self, pool: str) -> _PoolList:
        pool_list = self._pools.get(pool)
        if pool_list is None:
            if len(self._pools) >= POOLS_MAX:
                del self._pools[next(iter(self._pools))]
            pool_list = self._pools[pool] = _PoolList()
        return pool_list


def _next(pool_list: _PoolList, usable: AddressSet, avoid: Container[int]) -> FreeAddress | None:
    while pool_list.addresses:
        address = pool_list.addresses.popleft()
        if address.value in usable and address.value not in avoid:
            return address
    return None

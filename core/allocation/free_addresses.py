"""Lists of free addresses, for pools where an address picked without a read is usually in use.

This is the case for a nearly full pool, and while many agents claim from one pool. Such a pool is
read once (``Finder``) for all waiting requests of this process, and each request takes another
address of the list. Every agent starts at another position of the list, so that agents rarely
choose the same address.

A list is only a hint: the guards of the transaction decide, a lost race makes the next request read
again, and only a read that began after the request proves that a pool has no free address. Nothing
is watched, because an agent must not receive every allocation of every pool.
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
"""Seconds for which a pool counts as nearly full after the last read that shows it."""

CONTENDED_S: Final = 1.0
"""How long a pool counts as contended after the last lost race in it."""

LOSSES_MIN: Final = 3
"""A pool is contended after so many picks without a read failed within ``CONTENDED_S``.

These cost as much as one read.
"""

CONTENDED_CHOICES: Final = 100
"""``LOSSES_MIN`` counts only within so many picks; with fewer failures a list does not pay."""

READS_MAX: Final = 8
"""Reads after which a request raises LostRace, if other requests took all addresses each time."""

ADDRESSES_MAX: Final = 1_024
"""Addresses in one list; beyond it the first ones are dropped."""

POOLS_MAX: Final = 256
"""Pools with a list at once; beyond it the oldest is dropped."""


class TakeResult(NamedTuple):
    """``address`` None: every address is claimed, or is being claimed by this process.

    ``passed_over``: some are being claimed by this process.
    """

    address: FreeAddress | None
    passed_over: bool


class _Read(NamedTuple):
    """Whether a read found any address; ``passed_over`` as in ``TakeResult``."""

    any_found: bool
    passed_over: bool


class _Pool:
    """One pool: its list as of ``revision``, used without another read until ``listed_until``."""

    __slots__ = (
        "addresses", "choices", "listed_until", "losses", "lost_at", "read_lock", "reads",
        "revision",
    )  # fmt: skip

    def __init__(self) -> None:
        self.addresses: deque[FreeAddress] = deque(maxlen=ADDRESSES_MAX)
        self.revision = 0
        self.listed_until = float("-inf")
        self.choices = 0
        self.losses = 0
        self.lost_at = float("-inf")
        self.reads = 0
        self.read_lock = asyncio.Lock()


class FreeAddresses:
    """The lists of one process.

    ``name``: the writer's name, from which the start of each list is derived.
    """

    def __init__(self, finder: Finder, name: str, monotonic: Callable[[], float]) -> None:
        self._finder = finder
        self._name = name
        self._monotonic = monotonic
        self._pools: dict[str, _Pool] = {}
        self._reads: SharedWork[tuple[str, int, AddressSet], _Read] = SharedWork()

    def note_choice(self, pool: str) -> bool:
        """Count one choice, and return whether to use the list.

        Lost choices are compared with this count.
        """
        known = self._pools.get(pool)
        if known is None:
            return False
        known.choices += 1
        return self._monotonic() <= known.listed_until

    def take(self, pool: str, usable: AddressSet, avoid: Container[int]) -> FreeAddress | None:
        """Remove and return the next address of the list; None: there is none.

        An address in cool-down is not returned, because others may be free by now: see
        ``read_and_take``.
        """
        known = self._pools.get(pool)
        if known is None or (known.addresses and known.addresses[0].cool_down_revision):
            return None
        return _next(known, usable, avoid)

    async def read_and_take(
        self, pool: str, usable: AddressSet, avoid: Container[int]
    ) -> TakeResult:
        """An address from a read that begins after this call, in cool-down if none is free.

        Raises StoreUnavailable, and LostRace when other requests of this process took all addresses
        that were read.
        """
        known = self._pool(pool)
        for _ in range(READS_MAX):
            # With ``known.reads``, so that this call never joins a read that began before it.
            next_read = pool, known.reads, usable
            read = await self._reads.join(next_read, lambda: self._read(pool, known, usable, avoid))
            address = _next(known, usable, avoid)
            if address is not None or not read.any_found:
                return TakeResult(address, read.passed_over)
        raise LostRace(f"the last free addresses of IPPool {pool} are being claimed", subject=pool)

    def lost(self, pool: str, revision: int, *, is_listed: bool) -> None:
        """Note an address that another agent claimed at ``revision``.

        Others of its list may be claimed, too.
        """
        known, now = self._pool(pool), self._monotonic()
        if is_listed and known.revision < revision:
            known.addresses.clear()
        if now - known.lost_at > CONTENDED_S or known.choices > CONTENDED_CHOICES:
            known.losses = known.choices = 0
        known.losses += not is_listed
        known.lost_at = now
        if known.losses >= LOSSES_MIN:
            known.losses = known.choices = 0
            known.listed_until = max(known.listed_until, now + CONTENDED_S)

    def released(self, release: Release) -> None:
        """Add an address that this process has released without a cool-down."""
        if self.note_choice(release.pool):  # counted too: the address is chosen again
            value = parse_address(release.address).value
            self._pools[release.pool].addresses.append(FreeAddress(value))

    async def _read(
        self, pool: str, known: _Pool, usable: AddressSet, avoid: Container[int]
    ) -> _Read:
        async with known.read_lock:
            known.reads += 1
            seed = f"{self._name} {pool} {known.reads}"
            start = spread_index(seed, usable.size) if usable else 0
            free = await self._finder.free(usable, start, avoid)
            addresses, passed_over = [FreeAddress(value) for value in free.values], free.passed_over
            if not addresses:
                cooling_down = await self._finder.cooling_down(usable, avoid, free.revision)
                addresses = [*cooling_down.addresses]
                passed_over = passed_over or cooling_down.passed_over
            known.revision = free.revision
            known.addresses.clear()
            known.addresses.extend(addresses)
            now = self._monotonic()
            is_contended = now - known.lost_at <= CONTENDED_S
            if addresses and (
                free.values or is_contended
            ):  # else the longest in cool-down is first
                known.addresses.rotate(-spread_index(seed, len(addresses)))
            if is_scarce(free.estimated_count, usable.size):
                known.listed_until = now + SCARCE_S
            return _Read(bool(addresses), passed_over)

    def _pool(self, pool: str) -> _Pool:
        known = self._pools.get(pool)
        if known is None:
            if len(self._pools) >= POOLS_MAX:
                del self._pools[next(iter(self._pools))]
            known = self._pools[pool] = _Pool()
        return known


def _next(known: _Pool, usable: AddressSet, avoid: Container[int]) -> FreeAddress | None:
    while known.addresses:
        address = known.addresses.popleft()
        if address.value in usable and address.value not in avoid:
            return address
    return None

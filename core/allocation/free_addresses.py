"""Free addresses of pools in which a blind choice misses, as this process has read them.

That is so in a nearly full pool, the normal state of scarce addresses, and while many agents claim
from one pool at once. Then the pool is read (``Finder``), once for all requests of this process
that wait for it, and each of them and of the next ones takes another of the addresses that were
read to be free. Every agent begins at a place of its own in that list, so that agents rarely meet.

Promise: a list is never the truth. The transaction's guards decide, after a lost race the list is
read again, and only a read that began after the request says that a pool has no free address. It
watches nothing: an agent must not receive every allocation of every pool.
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
"""How long a pool counts as nearly full after the last read that says so."""

CONTENDED_S: Final = 1.0
"""How long a pool counts as contended after the last evidence of it."""

LOSSES_MIN: Final = 3
"""Blind tries lost within ``CONTENDED_S`` that make a pool contended: reading costs as much."""

READS_MAX: Final = 8
"""Lists that other requests may empty before one of them counts that as a lost race."""

ADDRESSES_MAX: Final = 1_024
"""Addresses in one list; of more, those that come first are forgotten."""

POOLS_MAX: Final = 256
"""Pools remembered at once; beyond it the oldest is forgotten."""


class Taken(NamedTuple):
    """``found`` None: every address was claimed, but for those this process is claiming itself.

    ``passed_over``: there were such addresses.
    """

    found: FreeAddress | None
    passed_over: bool


class _Read(NamedTuple):
    """Whether a read has found any address; ``passed_over`` as in ``Taken``."""

    any_found: bool
    passed_over: bool


class _Pool:
    """One pool: its list as of ``revision``, used without another read until ``listed_until``."""

    __slots__ = (
        "addresses", "listed_until", "losses", "lost_at", "one_read", "reads", "revision",
    )  # fmt: skip

    def __init__(self) -> None:
        self.addresses: deque[FreeAddress] = deque(maxlen=ADDRESSES_MAX)
        self.revision = 0
        self.listed_until = float("-inf")
        self.losses = 0
        self.lost_at = float("-inf")
        self.reads = 0
        self.one_read = asyncio.Lock()


class FreeAddresses:
    """The lists of one process. ``name`` is its writer's, by which agents spread."""

    def __init__(self, finder: Finder, name: str, monotonic: Callable[[], float]) -> None:
        self._finder = finder
        self._name = name
        self._monotonic = monotonic
        self._pools: dict[str, _Pool] = {}
        self._reads: SharedWork[tuple[str, int, AddressSet], _Read] = SharedWork()

    def is_listed(self, pool: str) -> bool:
        """Whether requests take addresses of its list, because a blind choice mostly misses."""
        known = self._pools.get(pool)
        return known is not None and self._monotonic() <= known.listed_until

    def take(self, pool: str, usable: AddressSet, avoid: Container[int]) -> FreeAddress | None:
        """The next address of the list, which forgets it; None: there is none.

        None that rests, for others may be free by now: ``read_and_take``.
        """
        known = self._pools.get(pool)
        if known is None or (known.addresses and known.addresses[0].rest_revision):
            return None
        return _next(known, usable, avoid)

    async def read_and_take(self, pool: str, usable: AddressSet, avoid: Container[int]) -> Taken:
        """An address by a read that begins after this call, a resting one where none is free.

        Raises StoreUnavailable, and LostRace when other requests of this process have taken all
        that was found.
        """
        known = self._pool(pool)
        for _ in range(READS_MAX):
            next_read = pool, known.reads, usable  # not one under way: that may be too old
            read = await self._reads.join(next_read, lambda: self._read(pool, known, usable, avoid))
            found = _next(known, usable, avoid)
            if found is not None or not read.any_found:
                return Taken(found, read.passed_over)
        raise LostRace(f"the last addresses of {pool} are being claimed", subject=pool)

    def lost(self, pool: str, revision: int, *, is_listed: bool) -> None:
        """An address was found taken at ``revision``; of a list, the others may be taken, too."""
        known, now = self._pool(pool), self._monotonic()
        if is_listed and known.revision < revision:
            known.addresses.clear()
        if now - known.lost_at > CONTENDED_S:
            known.losses = 0
        known.losses += not is_listed
        known.lost_at = now
        if known.losses >= LOSSES_MIN:
            known.losses = 0
            known.listed_until = max(known.listed_until, now + CONTENDED_S)

    def released(self, release: Release) -> None:
        """This process has released an address that does not rest."""
        if self.is_listed(release.pool):
            value = parse_address(release.address).value
            self._pools[release.pool].addresses.append(FreeAddress(value))

    async def _read(
        self, pool: str, known: _Pool, usable: AddressSet, avoid: Container[int]
    ) -> _Read:
        async with known.one_read:
            known.reads += 1
            place = f"{self._name} {pool} {known.reads}"
            start = spread_index(place, usable.size) if usable else 0
            free = await self._finder.free(usable, start, avoid)
            found, passed_over = [FreeAddress(value) for value in free.values], free.passed_over
            if not found:
                resting = await self._finder.resting(usable, avoid, free.revision)
                found, passed_over = [*resting.found], passed_over or resting.passed_over
            known.revision = free.revision
            known.addresses.clear()
            known.addresses.extend(found)
            now = self._monotonic()
            is_contended = now - known.lost_at <= CONTENDED_S
            if found and (free.values or is_contended):  # else the longest resting one comes first
                known.addresses.rotate(-spread_index(place, len(found)))
            if is_scarce(free.about, usable.size):
                known.listed_until = now + SCARCE_S
            return _Read(bool(found), passed_over)

    def _pool(self, pool: str) -> _Pool:
        known = self._pools.get(pool)
        if known is None:
            if len(self._pools) >= POOLS_MAX:
                del self._pools[next(iter(self._pools))]
            known = self._pools[pool] = _Pool()
        return known


def _next(known: _Pool, usable: AddressSet, avoid: Container[int]) -> FreeAddress | None:
    while known.addresses:
        found = known.addresses.popleft()
        if found.value in usable and found.value not in avoid:
            return found
    return None

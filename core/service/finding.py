"""Finding a free address by asking etcd for the truth: exact, and a few milliseconds for a /16.

Claims and cool-down marks are counted in some sixty stretches of the pool at once (one read); the
first stretch with fewer of them than addresses holds a free one, and is counted again until it is
small enough to be read. Nothing is expanded and nothing is guessed: None means that the pool was
full at the revision read.
"""

from __future__ import annotations

from collections.abc import Container
from itertools import islice
from typing import NamedTuple

from core.domain.address_set import AddressSet
from core.domain.choice import Search
from core.store.keys import Keys
from core.store.kv import TXN_OPERATIONS_MAX, Get, KeyValueStore, RangeResult

STRETCHES = 60
"""Parts counted in one read; two counts a part stay within etcd's 128 operations."""

READ_ADDRESSES_MAX = 1_200
"""Keys read at once: a stretch with fewer addresses or claims is read instead of counted again."""

RESTING_READ_MIN = 64
"""Cool-down marks read first when nothing else is free; more only when none of them can be had."""

RESTING_READ_GROWTH = 8
"""How many times as many are read then."""


OTHERS_MAX = 256
"""Further free addresses that a search names: those that it has read on the way."""


class Found(NamedTuple):
    """A free address; ``rest_revision`` names the cool-down mark to end with it (0: none).

    ``others``: more addresses that were free in what was read.
    """

    value: int
    rest_revision: int = 0
    others: tuple[int, ...] = ()


class Finder:
    """Looks for free addresses in etcd."""

    def __init__(self, store: KeyValueStore, keys: Keys) -> None:
        self._store = store
        self._keys = keys

    async def find(self, search: Search, avoid: Container[int]) -> Found | None:
        """A free address from the search's starting place onwards, else the longest resting one.

        ``avoid``: addresses being claimed by this process. Raises StoreUnavailable.
        """
        usable = search.usable
        if not usable:
            return None
        first = await self._in_stretch(usable.window(search.start, usable.size), avoid)
        if not first and search.start:
            first = await self._in_stretch(usable.window(0, search.start), avoid)
        if first:
            return Found(first[0], others=tuple(first[1:]))
        return await self._longest_resting(usable, avoid)

    async def count(self, addresses: AddressSet) -> int:
        """Claims of these addresses; what lies between them may be other pools'.

        Of a set of more intervals than a read has room for, gaps between neighbours count too.
        """
        hulls = addresses.hulls(TXN_OPERATIONS_MAX)
        parts = (AddressSet(addresses.family, (hull,)) for hull in hulls)
        gets = [self._get("ip", part, count_only=True) for part in parts]
        return sum(answer.count for answer in (await self._store.read(gets)).ranges)

    async def _in_stretch(self, stretch: AddressSet, avoid: Container[int]) -> list[int]:
        """Free addresses of the first part that has some, at most ``OTHERS_MAX`` and one."""
        if stretch.size <= READ_ADDRESSES_MAX:
            return await self._read(stretch, avoid)
        parts = stretch.split(STRETCHES)
        gets = [self._get(room, part, count_only=True) for part in parts for room in ("ip", "rest")]
        counts = [answer.count for answer in (await self._store.read(gets)).ranges]
        for index, part in enumerate(parts):
            taken = counts[2 * index] + counts[2 * index + 1]
            # Claims of addresses that are reserved by now lie in the gaps of a part and count too:
            # a part with gaps is only known to be full once it was read.
            if taken >= part.size and len(part.intervals) == 1:
                continue
            few = taken <= READ_ADDRESSES_MAX
            found = await (self._read if few else self._in_stretch)(part, avoid)
            if found:
                return found
        return []

    async def _read(self, stretch: AddressSet, avoid: Container[int]) -> list[int]:
        gets = [self._get(room, stretch, keys_only=True) for room in ("ip", "rest")]
        claims, rests = (await self._store.read(gets)).ranges
        taken = self._values("ip", claims) | self._values("rest", rests)
        values = (value for first, last in stretch for value in range(first, last + 1))
        free = (value for value in values if value not in taken and value not in avoid)
        return list(islice(free, OTHERS_MAX + 1))

    async def _longest_resting(self, usable: AddressSet, avoid: Container[int]) -> Found | None:
        """The one that has rested longest among those that may be had."""
        get = self._get("rest", usable, keys_only=True)
        get = get._replace(oldest_first=True, limit=RESTING_READ_MIN)
        while True:
            marks = (await self._store.read([get])).ranges[0]
            for mark in marks.kvs:
                for _, value in self._keys.addresses_in([mark.key], "rest"):
                    if value in usable and value not in avoid:
                        return Found(value, mark.mod_revision)
            if not marks.more:
                return None
            get = get._replace(limit=get.limit * RESTING_READ_GROWTH)

    def _get(
        self, room: str, span: AddressSet, *, keys_only: bool = False, count_only: bool = False
    ) -> Get:
        key = self._keys.ip if room == "ip" else self._keys.rest
        start = key(span.family, span.first())
        end = key(span.family, span.last()) + b"\0"
        return Get(start, end, keys_only=keys_only, count_only=count_only)

    def _values(self, room: str, answer: RangeResult) -> set[int]:
        return {value for _, value in self._keys.addresses_in((kv.key for kv in answer.kvs), room)}

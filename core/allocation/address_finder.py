"""Search for free addresses by reading etcd.

One request reads a pool of at most ``READ_KEYS_MAX`` addresses. A larger pool is split into parts:
one request counts the claims and cool-down marks of each part, then the parts that may have free
addresses are read. All reads of a search have the same revision.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from typing import NamedTuple

from core.domain.addresses.address_set import AddressSet
from core.domain.addresses.choice import Search
from core.errors import Compacted, LostRace
from core.eventstore.keys import COOL_DOWN_PREFIX, Keys
from core.eventstore.kv import TXN_OPERATIONS_MAX, Get, KeyValueStore, RangeResult

PARTS_MAX = 60
"""Each part needs two operations, and etcd accepts 128 in a request."""

READ_KEYS_MAX = 1_200
"""The most addresses of a pool, or claims and marks of a part, that one request reads."""

COOL_DOWN_READ_MIN = 64

COOL_DOWN_READ_GROWTH = 8

VALUES_MAX = 256


class FreeAddress(NamedTuple):
    """A free address.

    ``cool_down_revision``: the revision of its cool-down mark, which a claim deletes (0: no mark).
    """

    value: int
    cool_down_revision: int = 0


class FreeRead(NamedTuple):
    """At most ``VALUES_MAX`` addresses that were free at ``revision``.

    ``estimated_count``: about how many addresses were free; 0 if ``values`` is empty.
    ``passed_over``: some free addresses were left out because this process is claiming them.
    """

    revision: int
    values: tuple[int, ...]
    estimated_count: int
    passed_over: bool


class CoolingDown(NamedTuple):
    """Addresses in cool-down, oldest mark first. ``passed_over``: as in ``FreeRead``."""

    addresses: tuple[FreeAddress, ...]
    passed_over: bool


class _Scan:
    """What one search has read so far, at ``revision`` (0: nothing read)."""

    __slots__ = ("avoid", "passed_over", "revision", "values")

    def __init__(self, avoid: Container[int]) -> None:
        self.avoid = avoid
        self.revision = 0
        self.values: list[int] = []
        self.passed_over = False

    def add_free(self, part: AddressSet, taken: Container[int]) -> None:
        addresses_left = READ_KEYS_MAX
        for first, last in part:
            for value in range(first, last + 1):
                if value in taken:
                    continue
                if value in self.avoid:
                    self.passed_over = True
                    continue
                self.values.append(value)
                addresses_left -= 1
                if not addresses_left:
                    return


class _CountedPart(NamedTuple):
    part: AddressSet
    taken: int

    @property
    def free(self) -> int:
        """An estimate of the number of free addresses. It is 0 only if no address is free."""
        # ``taken`` may include claims in gaps of the part: only a read shows that the part is full.
        has_gaps = len(self.part.intervals) > 1
        return max(self.part.size - self.taken, 1 if has_gaps else 0)


class Finder:
    """Searches etcd for free addresses."""

    def __init__(self, store: KeyValueStore, keys: Keys) -> None:
        self._store = store
        self._keys = keys

    async def find(self, search: Search, avoid: Container[int]) -> FreeAddress | None:
        """A free address near the search's start, else the address longest in cool-down, else None.

        ``avoid``: addresses that this process is claiming. Raises StoreUnavailable, LostRace.
        """
        free = await self.free(search.usable, search.start, avoid)
        if free.values:
            return FreeAddress(free.values[0])
        cooling_down = await self.cooling_down(search.usable, avoid, free.revision)
        return cooling_down.addresses[0] if cooling_down.addresses else None

    async def free(self, usable: AddressSet, start: int, avoid: Container[int]) -> FreeRead:
        """Addresses without claim and cool-down mark, from about index ``start`` of ``usable``.

        Raises StoreUnavailable, LostRace.
        """
        scan = _Scan(avoid)
        if usable.size <= READ_KEYS_MAX:
            spans = usable.covering_intervals(PARTS_MAX) if usable else []
            parts = [usable & AddressSet(usable.family, (span,)) for span in spans]
            await self._read_parts(parts, scan)
            estimate, first_value = len(scan.values), usable.nth(start) if start else 0
            # The sort is stable: the addresses from ``first_value`` on move to the front.
            scan.values.sort(key=lambda value: value < first_value)
        else:
            parts = usable.split(PARTS_MAX)
            first = start * len(parts) // usable.size
            estimate = await self._scan_parts([*parts[first:], *parts[:first]], scan)
        values = tuple(scan.values[:VALUES_MAX])
        return FreeRead(scan.revision, values, estimate if values else 0, scan.passed_over)

    async def count(self, addresses: AddressSet) -> int:
        """The number of claims; may include claims in the gaps of a set with many intervals."""
        spans = addresses.covering_intervals(TXN_OPERATIONS_MAX)
        parts = (AddressSet(addresses.family, (span,)) for span in spans)
        gets = [self._get("ip", part, count_only=True) for part in parts]
        return sum(answer.count for answer in (await self._store.read(gets)).ranges)

    async def cooling_down(
        self, usable: AddressSet, avoid: Container[int], revision: int
    ) -> CoolingDown:
        """Usable addresses in cool-down at ``revision``, oldest mark first; may omit the newest.

        Raises StoreUnavailable, LostRace.
        """
        scan, passed_over = _Scan(avoid), False
        scan.revision = revision
        if not usable:
            return CoolingDown((), passed_over)
        get = self._get(COOL_DOWN_PREFIX, usable, keys_only=True)
        get = get._replace(oldest_first=True, limit=COOL_DOWN_READ_MIN)
        while True:
            marks = (await self._read_ranges([get], scan))[0]
            addresses = []
            for mark in marks.kvs:
                for _, value in self._keys.addresses_in([mark.key], COOL_DOWN_PREFIX):
                    if value in avoid:
                        passed_over = passed_over or value in usable
                    elif value in usable:
                        addresses.append(FreeAddress(value, mark.mod_revision))
            if addresses or not marks.more:
                return CoolingDown(tuple(addresses), passed_over)
            get = get._replace(limit=get.limit * COOL_DOWN_READ_GROWTH)

    async def _scan_parts(self, parts: Sequence[AddressSet], scan: _Scan) -> int:
        """Returns an estimate of the number of free addresses in all parts."""
        gets = [
            self._get(prefix, part, count_only=True)
            for part in parts
            for prefix in ("ip", COOL_DOWN_PREFIX)
        ]
        counts = [answer.count for answer in await self._read_ranges(gets, scan)]
        taken = map(sum, zip(counts[::2], counts[1::2], strict=True))
        counted_parts = [_CountedPart(*counted) for counted in zip(parts, taken, strict=True)]
        with_free = [counted for counted in counted_parts if counted.free]
        for batch in _batches(with_free):
            if batch[0].taken > READ_KEYS_MAX:  # alone in its batch
                await self._scan_parts(batch[0].part.split(PARTS_MAX), scan)
            else:
                await self._read_parts([counted.part for counted in batch], scan)
            if len(scan.values) >= VALUES_MAX:
                break
        return sum(counted.free for counted in with_free)

    async def _read_parts(self, parts: Sequence[AddressSet], scan: _Scan) -> None:
        gets = [
            self._get(prefix, part, keys_only=True)
            for part in parts
            for prefix in ("ip", COOL_DOWN_PREFIX)
        ]
        ranges = await self._read_ranges(gets, scan) if gets else ()
        for part, claims, marks in zip(parts, ranges[::2], ranges[1::2], strict=True):
            scan.add_free(part, self._values("ip", claims) | self._values(COOL_DOWN_PREFIX, marks))

    async def _read_ranges(self, gets: Sequence[Get], scan: _Scan) -> Sequence[RangeResult]:
        try:
            answer = await self._store.read(gets, revision=scan.revision)
        except Compacted as error:
            raise LostRace(f"the search for a free address was too slow: {error}") from error
        scan.revision = answer.revision
        return answer.ranges

    def _get(
        self, prefix: str, span: AddressSet, *, keys_only: bool = False, count_only: bool = False
    ) -> Get:
        key = self._keys.ip if prefix == "ip" else self._keys.cool_down
        start = key(span.family, span.first())
        end = key(span.family, span.last()) + b"\0"
        return Get(start, end, keys_only=keys_only, count_only=count_only)

    def _values(self, prefix: str, answer: RangeResult) -> set[int]:
        return {
            value for _, value in self._keys.addresses_in((kv.key for kv in answer.kvs), prefix)
        }


def _batches(counted_parts: Sequence[_CountedPart]) -> Iterator[list[_CountedPart]]:
    batch: list[_CountedPart] = []
    taken = free = 0
    for counted in counted_parts:
        if batch and (taken + counted.taken > READ_KEYS_MAX or free >= VALUES_MAX):
            yield batch
            batch, taken, free = [], 0, 0
        batch.append(counted)
        taken, free = taken + counted.taken, free + counted.free
    if batch:
        yield batch

"""Search for free addresses by reading etcd: exact, in a few milliseconds for a /16.

A pool of at most ``READ_ADDRESSES_MAX`` addresses is read whole. A larger one is split into about
sixty stretches, whose claims and cool-down marks are counted in one read; then the first stretches
that have more addresses than these are read, and one with too many claims for a read is split
again. All reads of a search have one revision: "none" means that no address was free at that
revision. Nothing is written.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from typing import NamedTuple

from core.domain.addresses.address_set import AddressSet
from core.domain.addresses.choice import Search
from core.errors import Compacted, LostRace
from core.eventstore.keys import Keys
from core.eventstore.kv import TXN_OPERATIONS_MAX, Get, KeyValueStore, RangeResult

STRETCHES = 60
"""Parts counted or read at once; two operations for each stay within etcd's 128."""

READ_ADDRESSES_MAX = 1_200
"""Keys read at once; a stretch with more claims is split and counted again."""

COOL_DOWN_READ_MIN = 64
"""Cool-down marks read first when no address is free; more only if none of them is usable."""

COOL_DOWN_READ_GROWTH = 8
"""Factor by which the next read of marks is larger."""

VALUES_MAX = 256
"""Most free addresses that one search returns."""


class FreeAddress(NamedTuple):
    """A free address.

    ``cool_down_revision``: its cool-down mark, which the claim deletes (0: none).
    """

    value: int
    cool_down_revision: int = 0


class FreeRead(NamedTuple):
    """Addresses that were free at ``revision``, at most ``VALUES_MAX``.

    ``estimated_count``: roughly how many were free, 0 only if none was. ``passed_over``: some free
    addresses were left out because this process is claiming them.
    """

    revision: int
    values: tuple[int, ...]
    estimated_count: int
    passed_over: bool


class CoolingDown(NamedTuple):
    """Addresses in cool-down, the longest first; ``passed_over`` as in ``FreeRead``."""

    addresses: tuple[FreeAddress, ...]
    passed_over: bool


class _Scan:
    """The free addresses that one search has found so far, as of ``revision`` (0: nothing read)."""

    __slots__ = ("avoid", "passed_over", "revision", "values")

    def __init__(self, avoid: Container[int]) -> None:
        self.avoid = avoid
        self.revision = 0
        self.values: list[int] = []
        self.passed_over = False

    def add_free(self, part: AddressSet, taken: Container[int]) -> None:
        """Add the addresses of a part that are not taken, at most ``READ_ADDRESSES_MAX``."""
        left = READ_ADDRESSES_MAX
        for first, last in part:
            for value in range(first, last + 1):
                if value in taken:
                    continue
                if value in self.avoid:
                    self.passed_over = True
                    continue
                self.values.append(value)
                left -= 1
                if not left:
                    return


class _Stretch(NamedTuple):
    """A part of a pool, and the claims and cool-down marks counted between its ends."""

    part: AddressSet
    taken: int

    @property
    def free(self) -> int:
        """An estimate of the number of free addresses, 0 only if none is free.

        Claims in the gaps of a part count too, as those of addresses that were reserved later: only
        a read proves that a part with gaps is full.
        """
        has_gaps = len(self.part.intervals) > 1
        return max(self.part.size - self.taken, 1 if has_gaps else 0)


class Finder:
    """Searches etcd for free addresses."""

    def __init__(self, store: KeyValueStore, keys: Keys) -> None:
        self._store = store
        self._keys = keys

    async def find(self, search: Search, avoid: Container[int]) -> FreeAddress | None:
        """A free address near the start of the search, else the one longest in cool-down.

        ``avoid``: addresses being claimed by this process. Raises StoreUnavailable, LostRace.
        """
        free = await self.free(search.usable, search.start, avoid)
        if free.values:
            return FreeAddress(free.values[0])
        cooling_down = await self.cooling_down(search.usable, avoid, free.revision)
        return cooling_down.addresses[0] if cooling_down.addresses else None

    async def free(self, usable: AddressSet, start: int, avoid: Container[int]) -> FreeRead:
        """Addresses without claim and cool-down mark, from about the one of rank ``start`` on.

        Raises StoreUnavailable, LostRace.
        """
        scan = _Scan(avoid)
        if usable.size <= READ_ADDRESSES_MAX:
            hulls = usable.hulls(STRETCHES) if usable else []
            await self._read([usable & AddressSet(usable.family, (hull,)) for hull in hulls], scan)
            estimate, here = len(scan.values), usable.nth(start) if start else 0
            scan.values.sort(key=lambda value: value < here)  # stable: a ring that begins there
        else:
            parts = usable.split(STRETCHES)
            first = start * len(parts) // usable.size
            estimate = await self._in_parts([*parts[first:], *parts[:first]], scan)
        values = tuple(scan.values[:VALUES_MAX])
        return FreeRead(scan.revision, values, estimate if values else 0, scan.passed_over)

    async def count(self, addresses: AddressSet) -> int:
        """The number of claims of these addresses.

        If the set has more intervals than one read takes, claims in the smallest gaps count too.
        """
        hulls = addresses.hulls(TXN_OPERATIONS_MAX)
        parts = (AddressSet(addresses.family, (hull,)) for hull in hulls)
        gets = [self._get("ip", part, count_only=True) for part in parts]
        return sum(answer.count for answer in (await self._store.read(gets)).ranges)

    async def cooling_down(
        self, usable: AddressSet, avoid: Container[int], revision: int
    ) -> CoolingDown:
        """The usable addresses that were longest in cool-down at ``revision``.

        Raises StoreUnavailable, LostRace.
        """
        scan, passed_over = _Scan(avoid), False
        scan.revision = revision
        if not usable:
            return CoolingDown((), passed_over)
        get = self._get("rest", usable, keys_only=True)
        get = get._replace(oldest_first=True, limit=COOL_DOWN_READ_MIN)
        while True:
            marks = (await self._at([get], scan))[0]
            addresses = []
            for mark in marks.kvs:
                for _, value in self._keys.addresses_in([mark.key], "rest"):
                    if value in avoid:
                        passed_over = passed_over or value in usable
                    elif value in usable:
                        addresses.append(FreeAddress(value, mark.mod_revision))
            if addresses or not marks.more:
                return CoolingDown(tuple(addresses), passed_over)
            get = get._replace(limit=get.limit * COOL_DOWN_READ_GROWTH)

    async def _in_parts(self, parts: Sequence[AddressSet], scan: _Scan) -> int:
        """Count the parts and read those with free addresses until ``VALUES_MAX`` are known.

        Returns roughly how many are free in all of them.
        """
        gets = [
            self._get(prefix, part, count_only=True) for part in parts for prefix in ("ip", "rest")
        ]
        counts = [answer.count for answer in await self._at(gets, scan)]
        taken = map(sum, zip(counts[::2], counts[1::2], strict=True))
        stretches = [_Stretch(*stretch) for stretch in zip(parts, taken, strict=True)]
        with_free = [stretch for stretch in stretches if stretch.free]
        for batch in _batches(with_free):
            if batch[0].taken > READ_ADDRESSES_MAX:
                await self._in_parts(batch[0].part.split(STRETCHES), scan)
            else:
                await self._read([stretch.part for stretch in batch], scan)
            if len(scan.values) >= VALUES_MAX:
                break
        return sum(stretch.free for stretch in with_free)

    async def _read(self, parts: Sequence[AddressSet], scan: _Scan) -> None:
        gets = [
            self._get(prefix, part, keys_only=True) for part in parts for prefix in ("ip", "rest")
        ]
        ranges = await self._at(gets, scan) if gets else ()
        for part, claims, rests in zip(parts, ranges[::2], ranges[1::2], strict=True):
            scan.add_free(part, self._values("ip", claims) | self._values("rest", rests))

    async def _at(self, gets: Sequence[Get], scan: _Scan) -> Sequence[RangeResult]:
        """Read at the revision of the scan, which is that of its first read."""
        try:
            answer = await self._store.read(gets, revision=scan.revision)
        except Compacted as error:
            raise LostRace(f"the search for a free address was too slow: {error}") from error
        scan.revision = answer.revision
        return answer.ranges

    def _get(
        self, prefix: str, span: AddressSet, *, keys_only: bool = False, count_only: bool = False
    ) -> Get:
        key = self._keys.ip if prefix == "ip" else self._keys.rest
        start = key(span.family, span.first())
        end = key(span.family, span.last()) + b"\0"
        return Get(start, end, keys_only=keys_only, count_only=count_only)

    def _values(self, prefix: str, answer: RangeResult) -> set[int]:
        return {
            value for _, value in self._keys.addresses_in((kv.key for kv in answer.kvs), prefix)
        }


def _batches(stretches: Sequence[_Stretch]) -> Iterator[list[_Stretch]]:
    """Group stretches into reads of enough free addresses and not too many claims."""
    batch: list[_Stretch] = []
    taken = free = 0
    for stretch in stretches:
        if batch and (taken + stretch.taken > READ_ADDRESSES_MAX or free >= VALUES_MAX):
            yield batch
            batch, taken, free = [], 0, 0
        batch.append(stretch)
        taken, free = taken + stretch.taken, free + stretch.free
    if batch:
        yield batch

"""Finding free addresses by reading etcd: exact, and a few milliseconds for a /16.

A pool of at most ``READ_ADDRESSES_MAX`` addresses is read. Of a larger one, claims and cool-down
marks are counted in some sixty stretches at once (one read), and the first stretches with fewer of
them than addresses are read; one with too many claims for that is counted again in parts. All
reads of a search are of one revision: "none" means that no address was free at that revision.
Nothing is expanded, nothing is guessed, and nothing is written.
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
"""Parts counted or read at once; two operations a part stay within etcd's 128."""

READ_ADDRESSES_MAX = 1_200
"""Keys read at once: stretches with more claims are counted again instead."""

RESTING_READ_MIN = 64
"""Cool-down marks read first when nothing else is free; more only when none of them can be had."""

RESTING_READ_GROWTH = 8
"""How many times as many are read then."""

VALUES_MAX = 256
"""Free addresses that one search names at most."""


class FreeAddress(NamedTuple):
    """A free address; ``rest_revision`` names the cool-down mark to end with it (0: none)."""

    value: int
    rest_revision: int = 0


class FreeRead(NamedTuple):
    """Addresses that were free at ``revision``, at most ``VALUES_MAX``.

    ``about``: how many were free in all, about, 0 only if none was. ``passed_over``: some were free
    that this process is claiming.
    """

    revision: int
    values: tuple[int, ...]
    about: int
    passed_over: bool


class Resting(NamedTuple):
    """Addresses that rest, the longest first; ``passed_over`` as in ``FreeRead``."""

    found: tuple[FreeAddress, ...]
    passed_over: bool


class _Scan:
    """What one search has read so far, all of it as of ``revision`` (0: nothing yet)."""

    __slots__ = ("avoid", "passed_over", "revision", "values")

    def __init__(self, avoid: Container[int]) -> None:
        self.avoid = avoid
        self.revision = 0
        self.values: list[int] = []
        self.passed_over = False

    def add_free(self, part: AddressSet, taken: Container[int]) -> None:
        """Take in what is not taken of a part, of a huge one the first addresses."""
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
        """About how many addresses are free, 0 only if none is.

        Claims of addresses that are reserved by now lie in the gaps of a part and count too: a part
        with gaps is only known to be full once it was read.
        """
        has_gaps = len(self.part.intervals) > 1
        return max(self.part.size - self.taken, 1 if has_gaps else 0)


class Finder:
    """Looks for free addresses in etcd."""

    def __init__(self, store: KeyValueStore, keys: Keys) -> None:
        self._store = store
        self._keys = keys

    async def find(self, search: Search, avoid: Container[int]) -> FreeAddress | None:
        """A free address near the search's starting place, else the longest resting one.

        ``avoid``: addresses being claimed by this process. Raises StoreUnavailable, LostRace.
        """
        free = await self.free(search.usable, search.start, avoid)
        if free.values:
            return FreeAddress(free.values[0])
        resting = await self.resting(search.usable, avoid, free.revision)
        return resting.found[0] if resting.found else None

    async def free(self, usable: AddressSet, start: int, avoid: Container[int]) -> FreeRead:
        """Addresses that neither are claimed nor rest, from about the one of rank ``start`` on.

        Raises StoreUnavailable, LostRace.
        """
        scan = _Scan(avoid)
        if usable.size <= READ_ADDRESSES_MAX:
            hulls = usable.hulls(STRETCHES) if usable else []
            await self._read([usable & AddressSet(usable.family, (hull,)) for hull in hulls], scan)
            about, here = len(scan.values), usable.nth(start) if start else 0
            scan.values.sort(key=lambda value: value < here)  # stable: a ring that begins there
        else:
            parts = usable.split(STRETCHES)
            first = start * len(parts) // usable.size
            about = await self._in_parts([*parts[first:], *parts[:first]], scan)
        values = tuple(scan.values[:VALUES_MAX])
        return FreeRead(scan.revision, values, about if values else 0, scan.passed_over)

    async def count(self, addresses: AddressSet) -> int:
        """Claims of these addresses; what lies between them may be other pools'.

        Of a set of more intervals than a read has room for, gaps between neighbours count too.
        """
        hulls = addresses.hulls(TXN_OPERATIONS_MAX)
        parts = (AddressSet(addresses.family, (hull,)) for hull in hulls)
        gets = [self._get("ip", part, count_only=True) for part in parts]
        return sum(answer.count for answer in (await self._store.read(gets)).ranges)

    async def resting(self, usable: AddressSet, avoid: Container[int], revision: int) -> Resting:
        """Those that had rested longest at ``revision`` among those that may be had.

        Raises StoreUnavailable, LostRace.
        """
        scan, passed_over = _Scan(avoid), False
        scan.revision = revision
        if not usable:
            return Resting((), passed_over)
        get = self._get("rest", usable, keys_only=True)
        get = get._replace(oldest_first=True, limit=RESTING_READ_MIN)
        while True:
            marks = (await self._at([get], scan))[0]
            found = []
            for mark in marks.kvs:
                for _, value in self._keys.addresses_in([mark.key], "rest"):
                    if value in avoid:
                        passed_over = passed_over or value in usable
                    elif value in usable:
                        found.append(FreeAddress(value, mark.mod_revision))
            if found or not marks.more:
                return Resting(tuple(found), passed_over)
            get = get._replace(limit=get.limit * RESTING_READ_GROWTH)

    async def _in_parts(self, parts: Sequence[AddressSet], scan: _Scan) -> int:
        """Count the parts, and read those with free addresses until enough are known.

        Returns about how many are free in all.
        """
        gets = [self._get(room, part, count_only=True) for part in parts for room in ("ip", "rest")]
        counts = [answer.count for answer in await self._at(gets, scan)]
        taken = map(sum, zip(counts[::2], counts[1::2], strict=True))
        stretches = [_Stretch(*one) for one in zip(parts, taken, strict=True)]
        hopeful = [one for one in stretches if one.free]
        for batch in _batches(hopeful):
            if batch[0].taken > READ_ADDRESSES_MAX:
                await self._in_parts(batch[0].part.split(STRETCHES), scan)
            else:
                await self._read([one.part for one in batch], scan)
            if len(scan.values) >= VALUES_MAX:
                break
        return sum(one.free for one in hopeful)

    async def _read(self, parts: Sequence[AddressSet], scan: _Scan) -> None:
        gets = [self._get(room, part, keys_only=True) for part in parts for room in ("ip", "rest")]
        ranges = await self._at(gets, scan) if gets else ()
        for part, claims, rests in zip(parts, ranges[::2], ranges[1::2], strict=True):
            scan.add_free(part, self._values("ip", claims) | self._values("rest", rests))

    async def _at(self, gets: Sequence[Get], scan: _Scan) -> Sequence[RangeResult]:
        """Read at the revision of the scan, which its first read says."""
        try:
            answer = await self._store.read(gets, revision=scan.revision)
        except Compacted as error:
            raise LostRace(f"the search for a free address took too long: {error}") from error
        scan.revision = answer.revision
        return answer.ranges

    def _get(
        self, room: str, span: AddressSet, *, keys_only: bool = False, count_only: bool = False
    ) -> Get:
        key = self._keys.ip if room == "ip" else self._keys.rest
        start = key(span.family, span.first())
        end = key(span.family, span.last()) + b"\0"
        return Get(start, end, keys_only=keys_only, count_only=count_only)

    def _values(self, room: str, answer: RangeResult) -> set[int]:
        return {value for _, value in self._keys.addresses_in((kv.key for kv in answer.kvs), room)}


def _batches(stretches: Sequence[_Stretch]) -> Iterator[list[_Stretch]]:
    """Stretches to read at once: enough free addresses, and no more claims than a read has."""
    batch: list[_Stretch] = []
    taken = free = 0
    for one in stretches:
        if batch and (taken + one.taken > READ_ADDRESSES_MAX or free >= VALUES_MAX):
            yield batch
            batch, taken, free = [], 0, 0
        batch.append(one)
        taken, free = taken + one.taken, free + one.free
    if batch:
        yield batch

"""The live log as a stream in log order, whatever its size and however many writers it has.

``LogReader.catch_up`` holds everything it reads; that suits a reader that is nearly up to date. The
archiver and audits may meet a log that nobody has sealed for a week, so they read it in two steps,
both at one revision: first the keys alone, which gives the order, then the values in that order,
some thousand segments at a time. Never pages an open prefix: every range has both its bounds.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import NamedTuple

from core.errors import LogGap
from core.store.keys import Keys
from core.store.kv import Get, KeyValue, KeyValueStore
from core.store.log import SEGMENTS_PER_READ_MAX, Segment

LISTED_SEGMENTS_MAX = 200_000
"""Keys whose order is known at a time, some 30 MB."""

LISTED_PER_WRITER_MIN = 64
"""So that many writers do not make the windows needlessly small."""

KEYS_PER_READ_MAX = 20_000
RANGES_PER_READ_MAX = 100
"""Ranges of one read; etcd takes 128."""


class LiveLog(NamedTuple):
    """The live log at one revision.

    ``heads``: the last seq of each writer; ``sealed``: the last one that is in the archive.
    """

    store: KeyValueStore
    keys: Keys
    revision: int
    heads: Mapping[str, int]
    sealed: Mapping[str, int]

    @property
    def size(self) -> int:
        """How many segments are live and not sealed."""
        return sum(head - self.sealed.get(writer, 0) for writer, head in self.heads.items())

    async def segments(self, after: int, upto: int) -> AsyncIterator[list[Segment]]:
        """The segments behind the archive with positions in (after, upto], in order.

        Raises LogGap when one is missing, Compacted when the revision was compacted meanwhile.
        """
        seen = dict(self.sealed)
        while True:
            places = await self._list(seen)
            for chunk in _chunks([one for one in places if after < one.position <= upto]):
                yield await self._read(chunk)
            if not places or places[-1].position >= upto:
                return
            for place in places:
                seen[place.writer] = place.seq

    async def _list(self, seen: Mapping[str, int]) -> list[_Place]:
        """The places that come next, in order: as many as are certainly next."""
        windows = _windows(self.heads, seen)
        places: list[_Place] = []
        certain = self.revision
        for batch in _batches(windows):
            gets = [self._get(window, keys_only=True) for window in batch]
            result = await self.store.read(gets, revision=self.revision)
            for window, found in zip(batch, result.ranges, strict=True):
                listed = self._places(window, found.kvs)
                places += listed
                if window.last < self.heads[window.writer]:
                    certain = min(certain, listed[-1].position)
        return sorted(place for place in places if place.position <= certain)

    async def _read(self, places: Sequence[_Place]) -> list[Segment]:
        windows: dict[str, _Window] = {}
        for _, writer, seq in places:
            known = windows.get(writer)
            windows[writer] = _Window(writer, known.first if known else seq, seq)
        segments: list[Segment] = []
        for batch in _batches(windows.values()):
            gets = [self._get(window) for window in batch]
            result = await self.store.read(gets, revision=self.revision)
            for window, found in zip(batch, result.ranges, strict=True):
                listed = self._places(window, found.kvs)
                segments += [
                    Segment(*place, kv.value) for place, kv in zip(listed, found.kvs, strict=True)
                ]
        segments.sort()
        return segments

    def _get(self, window: _Window, *, keys_only: bool = False) -> Get:
        log = self.keys.log
        start, end = log(window.writer, window.first), log(window.writer, window.last + 1)
        return Get(start, end, keys_only=keys_only)

    def _places(self, window: _Window, kvs: Sequence[KeyValue]) -> list[_Place]:
        """The places of a window's keys. Raises LogGap unless every one of them is there."""
        places = [
            _Place(kv.mod_revision, window.writer, int(self.keys.tail(kv.key, "log")[1], 16))
            for kv in kvs
        ]
        expected = range(window.first, window.last + 1)
        for seq, place in zip(expected, places, strict=False):
            if place.seq != seq:
                raise _gap(window.writer, seq, place.seq)
        if len(places) < len(expected):
            raise _gap(window.writer, window.first + len(places), window.last)
        return places


class _Place(NamedTuple):
    """Where a segment is; sorts in log order."""

    position: int
    writer: str
    seq: int


class _Window(NamedTuple):
    """Some consecutive segments of one writer, both ends included."""

    writer: str
    first: int
    last: int

    @property
    def size(self) -> int:
        return self.last - self.first + 1


def _windows(heads: Mapping[str, int], seen: Mapping[str, int]) -> list[_Window]:
    behind = [writer for writer, head in heads.items() if head > seen.get(writer, 0)]
    share = max(LISTED_PER_WRITER_MIN, LISTED_SEGMENTS_MAX // max(len(behind), 1))
    return [
        _Window(writer, first, min(heads[writer], first + share - 1))
        for writer in behind
        for first in (seen.get(writer, 0) + 1,)
    ]


def _batches(windows: Iterable[_Window]) -> Iterable[list[_Window]]:
    """Windows that go into one read; a large one is a batch of its own."""
    batch: list[_Window] = []
    total = 0
    for window in windows:
        if batch and (len(batch) >= RANGES_PER_READ_MAX or total + window.size > KEYS_PER_READ_MAX):
            yield batch
            batch, total = [], 0
        batch.append(window)
        total += window.size
    if batch:
        yield batch


def _chunks(places: Sequence[_Place]) -> Iterable[Sequence[_Place]]:
    for first in range(0, len(places), SEGMENTS_PER_READ_MAX):
        yield places[first : first + SEGMENTS_PER_READ_MAX]


def _gap(writer: str, expected: int, found: int) -> LogGap:
    return LogGap(
        f"writer {writer}: segment {expected} is not there, {found} is the next known",
        subject=writer,
        remedy="look for it with orbctl verify; restore etcd or the archive from a copy",
    )

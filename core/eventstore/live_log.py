"""The live log as a stream in log order, whatever its size and however many writers it has.

``LogReader.catch_up`` holds everything it reads; that suits a reader that is nearly up to date. The
archiver and audits may meet a log that nobody has sealed for a week. So they read every writer a
window ahead, all at one revision, and pass on what is certainly next: nothing of any writer can
come before the end of the window that ends first. Never pages an open prefix: every range has both
its bounds.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple

from core.errors import LogGap
from core.eventstore.keys import Keys
from core.eventstore.kv import Get, KeyValue, KeyValueStore
from core.eventstore.log import SEGMENTS_PER_READ_MAX, Segment, missing_segment

WINDOW_SEGMENTS = 1_000
"""Segments read ahead of what is passed on, over all writers.

Measured with segments of 19 kB: 4,000 at a time take a fifth more processor time, because an answer
of tens of megabytes fits into no cache; with segments of 300 B, 500 take a tenth more.
"""

WINDOW_PER_WRITER_MIN = 8
"""Segments read ahead of one writer at the least, so that thousands of writers take few reads."""

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
        windows = {
            writer: _Window(self.sealed.get(writer, 0), head)
            for writer, head in self.heads.items()
            if head > self.sealed.get(writer, 0)
        }
        size = max(WINDOW_PER_WRITER_MIN, WINDOW_SEGMENTS // max(len(windows), 1))
        certain = 0
        while certain < min(upto, self.revision):
            await self._fill(windows, size)
            ends = [window.end for window in windows.values() if window.has_more]
            certain = min([*ends, self.revision])
            taken = [one for window in windows.values() for one in window.take(certain)]
            found = sorted(one for one in taken if after < one.position <= upto)
            for first in range(0, len(found), SEGMENTS_PER_READ_MAX):
                yield found[first : first + SEGMENTS_PER_READ_MAX]

    async def _fill(self, windows: Mapping[str, _Window], size: int) -> None:
        """Read on for the writers whose windows are half empty."""
        wanted = [
            _Range(writer, window.seq + 1, min(window.seq + size, window.head))
            for writer, window in windows.items()
            if window.has_more and 2 * len(window.segments) < size
        ]
        for batch in _batches(wanted):
            result = await self.store.read(
                [self._get(one) for one in batch], revision=self.revision
            )
            for one, found in zip(batch, result.ranges, strict=True):
                windows[one.writer].segments.extend(self._segments(one, found.kvs))
                windows[one.writer].seq = one.last

    def _get(self, one: _Range) -> Get:
        log = self.keys.log
        return Get(log(one.writer, one.first), log(one.writer, one.last + 1))

    def _segments(self, one: _Range, kvs: Sequence[KeyValue]) -> list[Segment]:
        """The segments of a range. Raises LogGap unless every one of them is there."""
        writer = one.writer
        segments = []
        for kv in kvs:
            with suppress(ValueError):  # a key that no writer has written; ``verify`` names it
                _, seq = self.keys.check_segment(kv.key)
                segments.append(Segment(kv.mod_revision, writer, seq, kv.value))
        expected = range(one.first, one.last + 1)
        for seq, segment in zip(expected, segments, strict=False):
            if segment.seq != seq:
                raise _gap(writer, seq, segment.seq)
        if len(segments) < len(expected):
            raise _gap(writer, one.first + len(segments), one.last)
        return segments


class _Range(NamedTuple):
    """Some consecutive segments of one writer, both ends included."""

    writer: str
    first: int
    last: int


class _Window:
    """What was read ahead of one writer: up to ``seq``, of ``head`` segments in all."""

    __slots__ = ("head", "segments", "seq")

    def __init__(self, seq: int, head: int) -> None:
        self.seq = seq
        self.head = head
        self.segments: deque[Segment] = deque()

    @property
    def has_more(self) -> bool:
        """Whether segments of this writer are still to be read."""
        return self.seq < self.head

    @property
    def end(self) -> int:
        """The position up to which this writer is known."""
        return self.segments[-1].position

    def take(self, certain: int) -> Iterator[Segment]:
        """Pass on what lies up to a position."""
        while self.segments and self.segments[0].position <= certain:
            yield self.segments.popleft()


def _batches(ranges: Sequence[_Range]) -> Iterator[list[_Range]]:
    """Ranges that go into one read; a large one is a batch of its own."""
    batch: list[_Range] = []
    total = 0
    for one in ranges:
        size = one.last - one.first + 1
        if batch and (len(batch) >= RANGES_PER_READ_MAX or total + size > SEGMENTS_PER_READ_MAX):
            yield batch
            batch, total = [], 0
        batch.append(one)
        total += size
    if batch:
        yield batch


def _gap(writer: str, expected: int, found: int) -> LogGap:
    return missing_segment(
        writer, expected, found, "restore etcd or the archive from a copy; what it held is unknown"
    )

"""Read the segments of the log in log order: live ones (in etcd), those after a cursor, new ones.

Events are ordered by etcd revision, then by their index in the segment: the order is the same for
every reader. Each writer numbers its segments 1, 2, 3, ..., and its head has the number of the last
one. A missing number raises LogGap; the caller then continues from the state keys or the archive.

For a head that cannot be decoded, the number of the writer's last live segment is used, or that of
its last segment in the archive (``sealed``). Other writers are not affected; the writer of that
head is fenced and opens again.

``LiveLog`` reads a window of segments of each writer, all at one revision. The order is certain up
to the end of the window that ends first: segments up to there are yielded, then the next windows
are read. Every read has both bounds of its range. Nothing here writes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from core.domain.events import Recorded
from core.errors import LogCorrupt, LogGap
from core.eventstore.codec import WriterHead, decode_segment
from core.eventstore.keys import Keys, key_text
from core.eventstore.kinds import HEAD_KEYS
from core.eventstore.kv import Get, KeyChange, KeyValue, KeyValueStore
from core.eventstore.undecodable_values import Faults

READ_AGAIN: Final = "read the state keys or the archive, then continue from there"
RESTORE: Final = "restore a backup of etcd, or of the archive if the segment was archived"


class Segment(NamedTuple):
    """The events of one transaction as they are stored, at the revision ``position``.

    ``data`` is not decoded.
    """

    position: int
    writer: str
    seq: int
    data: bytes

    def events(self) -> list[Recorded]:
        """The events of the segment, in order. Raises LogCorrupt."""
        return decode_segment(self.data, writer=self.writer, position=self.position)


LOG_KEY_REMEDY: Final = "if a newer version wrote it, upgrade this process; else delete the key"


def segments_in(
    keys: Keys, changes: Iterable[KeyChange | KeyValue], faults: Faults
) -> Iterator[Segment]:
    """The segments among these keys; a key that names no segment goes to ``faults``."""
    for change in changes:
        if not change.value:
            continue
        try:
            writer, seq = keys.check_segment(change.key)
        except ValueError as error:
            name = key_text(keys, change.key)
            fault = LogCorrupt(f"log key {name}: {error}", subject=name, remedy=LOG_KEY_REMEDY)
            faults.report("segment", name, fault)
            continue
        yield Segment(change.mod_revision, writer, seq, change.value)


def advance(seqs: dict[str, int], segment: Segment) -> None:
    """Count the segment as its writer's next one. Raises LogGap if its number is another."""
    expected = seqs.get(segment.writer, 0) + 1
    if segment.seq != expected:
        raise missing_segment(segment.writer, expected, segment.seq, READ_AGAIN)
    seqs[segment.writer] = segment.seq


def missing_segment(writer: str, expected: int, known: int, remedy: str) -> LogGap:
    """The error of a gap. ``known``: a later segment that exists, or ``expected`` itself."""
    proof = f"segment {known} exists" if known != expected else "the writer's head counts it"
    return LogGap(
        f"segment {expected} of writer {writer} is missing, although {proof}",
        subject=writer,
        remedy=remedy,
    )


SEQ_MAX: Final = 2**64 - 1
"""The largest number of a segment that a key can have (16 hexadecimal digits)."""


async def read_heads(
    store: KeyValueStore,
    keys: Keys,
    kvs: Sequence[KeyValue],
    revision: int,
    faults: Faults,
    sealed: Mapping[str, int] | None = None,
) -> dict[str, WriterHead]:
    """Decode the heads among these keys as of a revision. Raises StoreUnavailable, Compacted."""
    heads: dict[str, WriterHead] = {}
    for kv in kvs:
        head = HEAD_KEYS.read(keys, kv.key, kv.value, faults)
        writer = key_text(keys, kv.key).partition("/")[2]
        if head is None and keys.is_writer(writer):
            head = await head_from_log(store, keys, kv, revision, (sealed or {}).get(writer, 0))
        if head is not None:
            heads[writer] = head
    return heads


async def head_from_log(
    store: KeyValueStore, keys: Keys, kv: KeyValue, revision: int = 0, sealed: int = 0
) -> WriterHead:
    """The head that follows from the writer's segments. Raises StoreUnavailable, Compacted.

    Its epoch is the revision of the key, which is larger than any epoch before.
    """
    writer = key_text(keys, kv.key).partition("/")[2]
    get = Get(keys.log(writer, sealed + 1), keys.log(writer, SEQ_MAX), keys_only=True)
    segments = (await store.read([get], revision=revision)).ranges[0].kvs
    seq = max((keys.check_segment(kv.key)[1] for kv in segments), default=sealed)
    return WriterHead(seq, kv.mod_revision)


SEGMENTS_PER_READ_MAX = 2_000
"""The maximum number of segments in one read: at most some 60 MB, usually 1 MB."""

WINDOW_SEGMENTS = 1_000
"""Segments in the windows of all writers together.

Measured with segments of 19 kB: a window of 4,000 takes a fifth more processor time, because an
answer of tens of megabytes fits into no cache. With segments of 300 B, a window of 500
takes a tenth more.
"""

WINDOW_PER_WRITER_MIN = 8
"""The smallest window of one writer, so that thousands of writers take few reads."""

RANGES_PER_READ_MAX = 100
"""The maximum number of ranges in one read; etcd accepts 128."""


class LiveLog:
    """The live log at one revision.

    ``heads``: the number of each writer's last segment. ``sealed``: the number of the last segment
    that is not to be read, because it is in the archive or was read before. ``remedy``: that of the
    LogGap for a missing segment; None: gaps are allowed.
    """

    def __init__(
        self,
        store: KeyValueStore,
        keys: Keys,
        revision: int,
        heads: Mapping[str, int],
        sealed: Mapping[str, int],
        faults: Faults | None = None,
        remedy: str | None = RESTORE,
    ) -> None:
        self.store = store
        self.revision = revision
        self.heads = heads
        self.sealed = sealed
        self._keys = keys
        self._faults = Faults() if faults is None else faults
        self._remedy = remedy

    @property
    def size(self) -> int:
        """The number of live segments that are not sealed."""
        return sum(head - self.sealed.get(writer, 0) for writer, head in self.heads.items())

    async def segments(
        self, after: int = 0, upto: int | None = None
    ) -> AsyncIterator[list[Segment]]:
        """Yield the segments with positions in (after, upto], in order; None: up to ``revision``.

        Raises LogGap when one is missing, Compacted when the revision was compacted meanwhile.
        """
        windows = {
            writer: _Window(self.sealed.get(writer, 0), head)
            for writer, head in self.heads.items()
            if head > self.sealed.get(writer, 0)
        }
        size = max(WINDOW_PER_WRITER_MIN, WINDOW_SEGMENTS // max(len(windows), 1))
        last = self.revision if upto is None else min(upto, self.revision)
        certain = 0
        while certain < last:
            await self._fill(windows, size)
            ends = [window.end for window in windows.values() if window.has_more]
            certain = min([*ends, self.revision])
            taken = [segment for window in windows.values() for segment in window.take(certain)]
            batch = sorted(segment for segment in taken if after < segment.position <= last)
            for first in range(0, len(batch), SEGMENTS_PER_READ_MAX):
                yield batch[first : first + SEGMENTS_PER_READ_MAX]

    async def _fill(self, windows: Mapping[str, _Window], size: int) -> None:
        """Read the next segments of the writers whose windows are half empty."""
        ranges = [
            _Range(writer, window.seq + 1, min(window.seq + size, window.head))
            for writer, window in windows.items()
            if window.has_more and 2 * len(window.segments) < size
        ]
        for batch in _batches(ranges):
            gets = [part.get(self._keys) for part in batch]
            result = await self.store.read(gets, revision=self.revision)
            for part, answer in zip(batch, result.ranges, strict=True):
                windows[part.writer].segments.extend(self._read(part, answer.kvs))
                windows[part.writer].seq = part.last

    def _read(self, part: _Range, kvs: Sequence[KeyValue]) -> list[Segment]:
        """The segments of a range. Raises LogGap if one is missing."""
        segments = list(segments_in(self._keys, kvs, self._faults))
        if self._remedy is None:
            return segments
        expected = range(part.first, part.last + 1)
        for seq, segment in zip(expected, segments, strict=False):
            if segment.seq != seq:
                raise missing_segment(part.writer, seq, segment.seq, self._remedy)
        if len(segments) < len(expected):
            first_missing = part.first + len(segments)
            raise missing_segment(part.writer, first_missing, first_missing, self._remedy)
        return segments


async def first_live(
    store: KeyValueStore, keys: Keys, heads: Mapping[str, int], revision: int
) -> dict[str, int]:
    """For each writer the number before its oldest segment in etcd; its head if it has none there.

    Raises StoreUnavailable, Compacted.
    """
    before = dict(heads)
    names = list(heads)
    for start in range(0, len(names), RANGES_PER_READ_MAX):
        writers = names[start : start + RANGES_PER_READ_MAX]
        gets = [
            Get(keys.log(writer, 1), keys.log(writer, heads[writer] + 1), limit=1, keys_only=True)
            for writer in writers
        ]
        result = await store.read(gets, revision=revision)
        for writer, answer in zip(writers, result.ranges, strict=True):
            for kv in answer.kvs:
                before[writer] = _seq_before(keys, kv.key)
    return before


def _seq_before(keys: Keys, key: bytes) -> int:
    """The number before a segment's; 0 for a key that no writer has written."""
    try:
        return keys.check_segment(key)[1] - 1
    except ValueError:
        return 0


class _Range(NamedTuple):
    """Some consecutive segments of one writer, both ends included."""

    writer: str
    first: int
    last: int

    def get(self, keys: Keys) -> Get:
        """The read of this range."""
        return Get(keys.log(self.writer, self.first), keys.log(self.writer, self.last + 1))


class _Window:
    """The segments of one writer that were read ahead: up to number ``seq`` of ``head``."""

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
        """The position up to which this writer was read, 0 for an empty window."""
        return self.segments[-1].position if self.segments else 0

    def take(self, certain: int) -> Iterator[Segment]:
        """Remove and yield the segments up to a position."""
        while self.segments and self.segments[0].position <= certain:
            yield self.segments.popleft()


def _batches(ranges: Sequence[_Range]) -> Iterator[list[_Range]]:
    """Split the ranges into reads within the limits; a large range gets a read of its own."""
    batch: list[_Range] = []
    total = 0
    for part in ranges:
        size = part.last - part.first + 1
        if batch and (len(batch) >= RANGES_PER_READ_MAX or total + size > SEGMENTS_PER_READ_MAX):
            yield batch
            batch, total = [], 0
        batch.append(part)
        total += size
    if batch:
        yield batch


class Cursor(NamedTuple):
    """How far a reader has read: up to ``position``, and for each writer up to a segment."""

    position: int
    seqs: dict[str, int]


LOG_START = Cursor(0, {})


class LogReader:
    """Reads segments in order."""

    def __init__(self, store: KeyValueStore, keys: Keys, faults: Faults | None = None) -> None:
        self._store = store
        self._keys = keys
        self._faults = Faults() if faults is None else faults

    async def heads(self, *, revision: int = 0) -> tuple[int, dict[str, WriterHead]]:
        """Every writer's head, and the revision at which they were read."""
        result = await self._store.read([Get(*self._keys.range_of("head"))], revision=revision)
        kvs = result.ranges[0].kvs
        heads = await read_heads(self._store, self._keys, kvs, result.revision, self._faults)
        return result.revision, heads

    async def cursor_now(self) -> Cursor:
        """The cursor after the newest committed segment of each writer."""
        revision, heads = await self.heads()
        return Cursor(revision, {writer: head.seq for writer, head in heads.items()})

    async def catch_up(self, cursor: Cursor) -> tuple[list[Segment], Cursor]:
        """Every live segment after the cursor, in log order, up to one revision.

        Raises LogGap when segments after the cursor have left etcd for the archive.
        """
        now = await self.cursor_now()
        live = LiveLog(
            self._store,
            self._keys,
            now.position,
            now.seqs,
            cursor.seqs,
            self._faults,
            remedy=READ_AGAIN,
        )
        segments = [segment async for batch in live.segments() for segment in batch]
        return segments, Cursor(now.position, {**cursor.seqs, **now.seqs})

    async def live(self) -> tuple[list[Segment], Cursor]:
        """Every segment that is still in etcd, also those in the archive; gaps are allowed."""
        now = await self.cursor_now()
        sealed = await first_live(self._store, self._keys, now.seqs, now.position)
        live = LiveLog(
            self._store, self._keys, now.position, now.seqs, sealed, self._faults, remedy=None
        )
        return [segment async for batch in live.segments() for segment in batch], now

    async def follow(self, cursor: Cursor) -> AsyncIterator[tuple[list[Segment], Cursor]]:
        """Yield the segments after the cursor as they are committed; an empty list is progress.

        After LogGap or Compacted, the caller must catch up again.
        """
        seqs = dict(cursor.seqs)
        async for batch in self._store.watch([self._keys.range_of("log")], after=cursor.position):
            segments = list(segments_in(self._keys, batch.changes, self._faults))
            for segment in segments:
                advance(seqs, segment)
            yield segments, Cursor(batch.revision, dict(seqs))

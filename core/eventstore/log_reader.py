"""Read the segments of the log in log order, which is the order of etcd revisions.

Each writer numbers its segments 1, 2, 3, ..., and its head has the last number. After LogGap (a
missing number), the caller continues from the state keys or the archive. Live segments are those in
etcd.

``LiveLog`` reads a window of segments for each writer. It yields segments up to the lowest position
at which a window ends. Later segments wait, because the next read may return older ones.
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
    """The encoded events of one transaction, at the etcd revision ``position``."""

    position: int
    writer: str
    seq: int
    data: bytes

    def events(self) -> list[Recorded]:
        """The events in order. Raises LogCorrupt."""
        return decode_segment(self.data, writer=self.writer, position=self.position)


LOG_KEY_REMEDY: Final = "if a newer version wrote it, upgrade this process; else delete the key"


def segments_in(
    keys: Keys, changes: Iterable[KeyChange | KeyValue], faults: Faults
) -> Iterator[Segment]:
    """Yield the segments of these keys; report malformed keys to ``faults``."""
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
    """Store the segment's number in ``seqs``. Raises LogGap unless it is the next one."""
    expected = seqs.get(segment.writer, 0) + 1
    if segment.seq != expected:
        raise missing_segment(segment.writer, expected, segment.seq, READ_AGAIN)
    seqs[segment.writer] = segment.seq


def missing_segment(writer: str, expected: int, known: int, remedy: str) -> LogGap:
    """The error for the missing segment ``expected``.

    ``known``: a later segment that exists, or ``expected`` if only the head proves the gap.
    """
    proof = f"segment {known} exists" if known != expected else "the writer's head counts it"
    return LogGap(
        f"segment {expected} of writer {writer} is missing, although {proof}",
        subject=writer,
        remedy=remedy,
    )


SEQ_MAX: Final = 2**64 - 1


async def read_heads(
    store: KeyValueStore,
    keys: Keys,
    kvs: Sequence[KeyValue],
    revision: int,
    faults: Faults,
    sealed: Mapping[str, int] | None = None,
) -> dict[str, WriterHead]:
    """Decode these heads, by writer. Raises StoreUnavailable, Compacted.

    An undecodable head is derived from the log. ``sealed``: writer -> last archived segment.
    """
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
    """Derive a writer's head from the segments in etcd. Raises StoreUnavailable, Compacted.

    Malformed log keys do not count: ``segments_in`` reports them to those who read the segments.
    The epoch is the revision of the head's key, which is larger than every earlier epoch.
    """
    writer = key_text(keys, kv.key).partition("/")[2]
    get = Get(keys.log(writer, sealed + 1), keys.log(writer, SEQ_MAX), keys_only=True)
    segments = (await store.read([get], revision=revision)).ranges[0].kvs
    seq = max((_seq_of(keys, kv.key) for kv in segments), default=0)
    return WriterHead(max(seq, sealed), kv.mod_revision)


SEGMENTS_PER_READ_MAX = 2_000
"""They take at most some 60 MB, usually 1 MB."""

WINDOW_SEGMENTS = 1_000
"""The segments in all windows together. Measured: 500 and 4,000 take more CPU time."""

WINDOW_PER_WRITER_MIN = 8
"""Smaller windows would need many reads for thousands of writers."""

RANGES_PER_READ_MAX = 100
"""etcd accepts 128."""


class LiveLog:
    """The live log at one revision.

    ``heads``: writer -> number of the last segment. ``sealed``: writer -> number of the last
    segment to skip. ``remedy``: the remedy in a LogGap; None allows gaps.
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
        """The number of segments after ``sealed``."""
        return sum(head - self.sealed.get(writer, 0) for writer, head in self.heads.items())

    async def segments(
        self, after: int = 0, upto: int | None = None
    ) -> AsyncIterator[list[Segment]]:
        """Yield the segments with positions in (after, upto], in order.

        ``upto`` None: ``revision``. Raises LogGap, and Compacted if ``revision`` was compacted.
        """
        windows = {
            writer: _Window(self.sealed.get(writer, 0), head)
            for writer, head in self.heads.items()
            if head > self.sealed.get(writer, 0)
        }
        size = max(WINDOW_PER_WRITER_MIN, WINDOW_SEGMENTS // max(len(windows), 1))
        last = self.revision if upto is None else min(upto, self.revision)
        complete_until = 0
        while complete_until < last:
            await self._fill(windows, size)
            ends = [window.end for window in windows.values() if window.has_more]
            complete_until = min([*ends, self.revision])
            taken = [
                segment for window in windows.values() for segment in window.take(complete_until)
            ]
            batch = sorted(segment for segment in taken if after < segment.position <= last)
            for first in range(0, len(batch), SEGMENTS_PER_READ_MAX):
                yield batch[first : first + SEGMENTS_PER_READ_MAX]

    async def _fill(self, windows: Mapping[str, _Window], size: int) -> None:
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
        """The segments of a range. Raises LogGap for a missing segment if there is a ``remedy``."""
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


async def seqs_before_live(
    store: KeyValueStore, keys: Keys, heads: Mapping[str, int], revision: int
) -> dict[str, int]:
    """For each writer, the number before the oldest live segment, or the head if none is live.

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
                before[writer] = max(_seq_of(keys, kv.key) - 1, 0)
    return before


def _seq_of(keys: Keys, key: bytes) -> int:
    """The number of a segment; 0 for a malformed key."""
    try:
        return keys.check_segment(key)[1]
    except ValueError:
        return 0


class _Range(NamedTuple):
    """A range of segments of one writer, both ends included."""

    writer: str
    first: int
    last: int

    def get(self, keys: Keys) -> Get:
        return Get(keys.log(self.writer, self.first), keys.log(self.writer, self.last + 1))


class _Window:
    """The segments of one writer that were read and not taken yet.

    ``seq``: the last segment read. ``head``: the writer's last segment.
    """

    __slots__ = ("head", "segments", "seq")

    def __init__(self, seq: int, head: int) -> None:
        self.seq = seq
        self.head = head
        self.segments: deque[Segment] = deque()

    @property
    def has_more(self) -> bool:
        return self.seq < self.head

    @property
    def end(self) -> int:
        return self.segments[-1].position if self.segments else 0

    def take(self, complete_until: int) -> Iterator[Segment]:
        while self.segments and self.segments[0].position <= complete_until:
            yield self.segments.popleft()


def _batches(ranges: Sequence[_Range]) -> Iterator[list[_Range]]:
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
    """A position in the log. ``seqs``: writer -> last segment read."""

    position: int
    seqs: dict[str, int]


LOG_START = Cursor(0, {})


class LogReader:
    """Reads segments in log order."""

    def __init__(self, store: KeyValueStore, keys: Keys, faults: Faults | None = None) -> None:
        self._store = store
        self._keys = keys
        self._faults = Faults() if faults is None else faults

    async def heads(self, *, revision: int = 0) -> tuple[int, dict[str, WriterHead]]:
        """The revision of the read, and every writer's head."""
        result = await self._store.read([Get(*self._keys.range_of("head"))], revision=revision)
        kvs = result.ranges[0].kvs
        heads = await read_heads(self._store, self._keys, kvs, result.revision, self._faults)
        return result.revision, heads

    async def cursor_now(self) -> Cursor:
        """The cursor after each writer's newest segment."""
        revision, heads = await self.heads()
        return Cursor(revision, {writer: head.seq for writer, head in heads.items()})

    async def catch_up(self, cursor: Cursor) -> tuple[list[Segment], Cursor]:
        """The live segments after the cursor, in log order, and the new cursor.

        Raises LogGap if some of them are no longer in etcd.
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
        """Every live segment and the newest cursor; gaps are allowed."""
        now = await self.cursor_now()
        sealed = await seqs_before_live(self._store, self._keys, now.seqs, now.position)
        live = LiveLog(
            self._store, self._keys, now.position, now.seqs, sealed, self._faults, remedy=None
        )
        return [segment async for batch in live.segments() for segment in batch], now

    async def follow(self, cursor: Cursor) -> AsyncIterator[tuple[list[Segment], Cursor]]:
        """Yield the segments after the cursor as they are committed.

        An empty list reports progress. After LogGap or Compacted, the caller must catch up again.
        """
        seqs = dict(cursor.seqs)
        async for batch in self._store.watch([self._keys.range_of("log")], after=cursor.position):
            segments = list(segments_in(self._keys, batch.changes, self._faults))
            for segment in segments:
                advance(seqs, segment)
            yield segments, Cursor(batch.revision, dict(seqs))

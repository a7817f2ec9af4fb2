"""Replay: reads the archive and the live log (the newest segments, in etcd) as one stream.

The cursor and every writer's head are read at one revision: the live log continues exactly where
the archive ends.

The log is ordered by revisions, never by clocks. To find the state at a time, readers use the log's
clock: the highest ``recorded_at_ms`` so far, but at most the time when the event was sealed or
read. So a writer whose clock is ahead distorts the log's clock only until the next seal.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import NamedTuple

from core.archive.archive_directory import Files
from core.archive.cursor import CURSOR_KEYS, NOTHING_SEALED, cursor_key
from core.archive.sealed_log import SealedLog
from core.archive.unread_parts import UnreadPartList
from core.domain.events import Recorded
from core.errors import LogCorrupt, LogGap
from core.eventstore.keys import Keys
from core.eventstore.kv import Get, KeyValueStore
from core.eventstore.log_reader import LiveLog, Segment, read_heads
from core.eventstore.undecodable_values import Faults
from core.eventstore.writer import unix_ms


class SegmentBatch(NamedTuple):
    """Consecutive segments.

    ``read_at_ms``: when the segments were sealed; for live segments, when they were read.
    """

    segments: list[Segment]
    read_at_ms: int


class LogView:
    """The complete log as of ``revision``."""

    def __init__(self, sealed: SealedLog, live: LiveLog, now_ms: Callable[[], int]) -> None:
        self.sealed = sealed
        self.live = live
        self.revision = live.revision
        self._now_ms = now_ms

    @property
    def unread(self) -> UnreadPartList | None:
        """The unreadable parts that were skipped; None: an unreadable part raises LogCorrupt."""
        return self.sealed.unread

    def events_of(self, segment: Segment) -> list[Recorded]:
        """The events of a segment; none if it is unreadable and skipped. Raises LogCorrupt."""
        return segment.events() if self.unread is None else self.unread.events_of(segment)

    async def batches(self, after: int = 0, upto: int | None = None) -> AsyncIterator[SegmentBatch]:
        """The segments with positions in (after, upto], in log order.

        Raises LogCorrupt, LogGap, Compacted, StoreUnavailable.
        """
        end = self.revision if upto is None else min(upto, self.revision)
        # The order can be checked only from the archive's beginning, and with every segment.
        is_checked = after == 0 and self.unread is None
        seqs = self.sealed.first_state().seqs.copy() if is_checked else None
        for summary, segments in self.sealed.segments(after, end):
            if seqs is not None:
                _check_order(seqs, segments)
            yield SegmentBatch(segments, summary.sealed_at_ms)
        if end > self.sealed.cursor.position:
            now_ms = self._now_ms()
            async for segments in self.live.segments(after, end):
                yield SegmentBatch(segments, now_ms)

    async def events(
        self, after: int = 0, upto: int | None = None
    ) -> AsyncIterator[list[Recorded]]:
        """The events of ``batches``, one segment at a time.

        Decoding a whole batch at once takes two to three times as long.
        """
        async for batch in self.batches(after, upto):
            for segment in batch.segments:
                yield self.events_of(segment)


async def open_log(
    store: KeyValueStore,
    keys: Keys,
    files: Files,
    *,
    now_ms: Callable[[], int] = unix_ms,
    faults: Faults | None = None,
    unread: UnreadPartList | None = None,
) -> LogView:
    """The complete log as of the current revision. Raises StoreUnavailable, LogCorrupt.

    ``unread``: receives unreadable parts, which are then skipped; None: they raise LogCorrupt.
    """
    result = await store.read([Get(cursor_key(keys)), Get(*keys.range_of("head"))])
    cursor_kvs, head_kvs = (answer.kvs for answer in result.ranges)
    cursor = (
        CURSOR_KEYS.decode(keys, cursor_kvs[0].key, cursor_kvs[0].value)
        if cursor_kvs
        else NOTHING_SEALED
    )
    faults = Faults() if faults is None else faults
    by_writer = await read_heads(store, keys, head_kvs, result.revision, faults, cursor.seqs)
    heads = {writer: head.seq for writer, head in by_writer.items()}
    for writer, seq in cursor.seqs.items():
        if heads.get(writer, 0) < seq:
            raise LogCorrupt(
                f"the head of writer {writer} in etcd is segment {heads.get(writer, 0)}, but the"
                f" archive has segment {seq}",
                subject=writer,
                remedy="restore a newer backup of etcd: the restored one is older than the archive",
            )
    live = LiveLog(store, keys, result.revision, heads, cursor.seqs, faults)
    return LogView(SealedLog(files, cursor, unread), live, now_ms)


def _check_order(seqs: dict[str, int], segments: list[Segment]) -> None:
    """Compare segments with each writer's last seq in ``seqs``; update ``seqs``. Raises LogGap."""
    for segment in segments:
        writer = segment.writer
        expected = seqs.get(writer, 0) + 1
        if segment.seq != expected:
            raise LogGap(
                f"writer {writer}: expected segment {expected} in the archive, got {segment.seq}",
                subject=writer,
                remedy="restore the archive from a copy",
            )
        seqs[writer] = segment.seq


def advance_clock(clock_ms: int, recorded: Recorded, read_at_ms: int) -> int:
    """The log's clock after this event. No event sets the clock later than ``read_at_ms``."""
    stamp = recorded.recorded_at_ms
    if stamp <= clock_ms:
        return clock_ms
    return max(clock_ms, min(stamp, read_at_ms))

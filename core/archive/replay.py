"""Replay: archive and live log as one ordered stream, proven as it is read.

A ``LogView`` is the whole log as of one revision: the cursor and every writer's head are read at
that revision, so nothing can be between the two parts, however busy the cluster or the archiver is.
Blocks of the archive are proven by the hash chain, live segments by their sequence numbers. To
begin in the middle, fold from ``sealed.snapshot_before``. This module only reads.

Read in batches, decode a segment at a time: its events are still in the processor's cache when they
are folded, and gone before the collector of cycles comes to look at them. Thousands decoded at once
take twice as long, on a busy machine three times.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import NamedTuple

from core.archive.cursor import CURSORS, NOTHING_SEALED, cursor_key
from core.archive.files import Files
from core.archive.sealed_log import SealedLog, sealed_alone
from core.domain.events import Recorded
from core.errors import LogCorrupt, LogGap
from core.eventstore.faults import Faults
from core.eventstore.heads import read_heads
from core.eventstore.keys import Keys
from core.eventstore.kv import Get, KeyValueStore
from core.eventstore.live_log import LiveLog
from core.eventstore.segments import Segment
from core.eventstore.writer import unix_ms


class SegmentBatch(NamedTuple):
    """Consecutive segments; ``read_at_ms`` bounds their stamps (``core.archive.clock``)."""

    segments: list[Segment]
    read_at_ms: int


class LogView:
    """The whole log as of ``revision``. ``live`` None: the archive alone, without an etcd."""

    def __init__(self, sealed: SealedLog, live: LiveLog | None, now_ms: Callable[[], int]) -> None:
        self.sealed = sealed
        self.live = live
        self.revision = live.revision if live else sealed.cursor.position
        self._now_ms = now_ms

    async def batches(self, after: int = 0, upto: int | None = None) -> AsyncIterator[SegmentBatch]:
        """Every segment with a position in (after, upto], in log order, in small batches.

        Raises LogCorrupt (archive), LogGap (live log), Compacted, StoreUnavailable.
        """
        end = self.revision if upto is None else min(upto, self.revision)
        seqs = self.sealed.base().seqs.copy() if after == 0 else None
        for summary, segments in self.sealed.segments(after, end):
            if seqs is not None:
                _check_order(seqs, segments)
            yield SegmentBatch(segments, summary.sealed_at_ms)
        if self.live is not None and end > self.sealed.cursor.position:
            now_ms = self._now_ms()
            async for segments in self.live.segments(after, end):
                yield SegmentBatch(segments, now_ms)

    async def events(
        self, after: int = 0, upto: int | None = None
    ) -> AsyncIterator[list[Recorded]]:
        """The events of ``batches``, those of a segment at a time."""
        async for batch in self.batches(after, upto):
            for segment in batch.segments:
                yield segment.events()


async def open_log(
    store: KeyValueStore,
    keys: Keys,
    files: Files,
    *,
    now_ms: Callable[[], int] = unix_ms,
    faults: Faults | None = None,
) -> LogView:
    """The whole log as of now. Raises StoreUnavailable, LogCorrupt."""
    result = await store.read([Get(cursor_key(keys)), Get(*keys.range("head"))])
    kept, heads_found = (found.kvs for found in result.ranges)
    cursor = CURSORS.decode(keys, kept[0].key, kept[0].value) if kept else NOTHING_SEALED
    faults = Faults() if faults is None else faults
    found = await read_heads(store, keys, heads_found, result.revision, faults, cursor.seqs)
    heads = {writer: head.seq for writer, head in found.items()}
    for writer, seq in cursor.seqs.items():
        if heads.get(writer, 0) < seq:
            raise LogCorrupt(
                f"writer {writer} is at segment {heads.get(writer, 0)}, the archive has {seq}",
                subject=writer,
                remedy="etcd was set back behind its archive: restore a newer copy of etcd",
            )
    live = LiveLog(store, keys, result.revision, heads, cursor.seqs, faults)
    return LogView(SealedLog(files, cursor), live, now_ms)


def open_archive(files: Files, cluster: str, *, now_ms: Callable[[], int] = unix_ms) -> LogView:
    """The sealed part of a log alone, without its etcd. Raises LogCorrupt."""
    return LogView(sealed_alone(files, cluster), None, now_ms)


def _check_order(seqs: dict[str, int], segments: list[Segment]) -> None:
    """Raises LogGap unless every writer's segments are consecutive from 1."""
    for _, writer, seq, _ in segments:
        expected = seqs.get(writer, 0) + 1
        if seq != expected:
            raise LogGap(
                f"writer {writer}: segment {expected} is not in the archive, {seq} is the next",
                subject=writer,
                remedy="restore the archive from a copy",
            )
        seqs[writer] = seq

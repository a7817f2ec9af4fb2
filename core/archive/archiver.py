"""The archiver: moves the old part of the log from etcd into files, so that etcd stays small.

A segment has the events of one transaction of one writer. Segments in etcd are called live,
segments in files are called sealed. For each file: write the file, commit the cursor (how far the
log is sealed) guarded by its revision, delete the sealed segments from etcd. After the last
file, compact etcd.

A crash loses nothing: the next seal removes leftover files, and deletes sealed segments from etcd.
If two archivers run at the same time, one fails to commit the cursor, and removes its new files.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple

from core.archive.archive_directory import Files
from core.archive.archiver_leftovers import remove_leftovers
from core.archive.cursor import CURSOR_CODEC, StoredCursor, cursor_key, read_cursor
from core.archive.file_builder import FileBuilder
from core.archive.replay import LogView, open_log
from core.archive.sealed_log import SealedLog
from core.errors import LogCorrupt, StoreFull
from core.eventstore.keys import Keys
from core.eventstore.kv import Absent, Delete, Get, Guard, KeyValueStore, Put, TxnResult, Unchanged
from core.eventstore.log_reader import RANGES_PER_READ_MAX, Segment
from core.eventstore.writer import unix_ms

LIVE_SEGMENTS_MAX = 20_000
"""Sealing is due at this number. In a busy cluster, the segments have some 60 MB."""

LIVE_EVENTS_MAX = 200_000
"""Sealing is due at this number. To read and apply these events takes a second."""

FILE_BYTES_MAX = 64 * 1024 * 1024
"""Raw bytes at which a file is full: some 200,000 events."""

DELETED_SEGMENTS_MAX = 1_000
"""The most segments that one transaction deletes."""


class _SegmentRange(NamedTuple):
    writer: str
    first: int
    last: int


class _Deletion(NamedTuple):
    """``revision``: the revision after the last deletion (0: nothing was deleted)."""

    segments: int
    revision: int


class SealResult(NamedTuple):
    """The result of one seal, with its counts. Every segment up to ``position`` is sealed.

    ``superseded``: another archiver has committed the cursor first.
    """

    position: int
    files: int = 0
    segments: int = 0
    events: int = 0
    deleted: int = 0
    superseded: bool = False


def needs_sealing(live_segments: int, live_events: int = 0) -> bool:
    """Whether sealing is due; pass 0 for an unknown count."""
    return live_segments >= LIVE_SEGMENTS_MAX or live_events >= LIVE_EVENTS_MAX


class Archiver:
    """Seals the log of one cluster.

    ``free_space``: called if etcd is too full for the cursor, before the second try.
    """

    def __init__(
        self,
        store: KeyValueStore,
        keys: Keys,
        files: Files,
        *,
        file_bytes_max: int = FILE_BYTES_MAX,
        now_ms: Callable[[], int] = unix_ms,
        free_space: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._store = store
        self._keys = keys
        self._files = files
        self._file_bytes_max = file_bytes_max
        self._now_ms = now_ms
        self._free_space = free_space

    async def live_segments(self) -> int:
        """The number of segments that are not sealed yet."""
        view = await open_log(self._store, self._keys, self._files)
        return view.live.size

    async def seal(self, upto: int | None = None) -> SealResult:
        """Seal every segment up to a revision (None: the newest); finish an interrupted seal.

        After StoreUnavailable, OutcomeUnknown or Compacted, call again. Raises also LogGap,
        OSError. Raises LogCorrupt for a segment that cannot be applied, after it has sealed the
        earlier segments.
        """
        stored = await read_cursor(self._store, self._keys)
        run = _SealRun(stored)
        run.add_deleted(await self._delete_segments(stored, _first_seqs(stored)))
        view = await open_log(self._store, self._keys, self._files)
        if view.sealed.cursor != stored.cursor:  # another archiver has committed meanwhile
            return run.report(superseded=True)
        await asyncio.to_thread(remove_leftovers, self._files, view.sealed, self._keys.cluster)
        if not await self._seal_files(run, view, view.revision if upto is None else upto):
            return run.report(superseded=True)
        if run.stored.cursor.files:
            await self._store.compact(max(view.revision, run.revision))
        return run.report()

    async def _seal_files(self, run: _SealRun, view: LogView, upto: int) -> bool:
        """Returns False if ``_finish_file`` does."""
        now_ms = self._now_ms()
        builder: FileBuilder | None = None
        async for segments in view.live.segments(0, upto):
            remaining: Sequence[Segment] = segments
            while remaining:
                if builder is None:
                    builder = await asyncio.to_thread(self._begin_file, run.stored)
                try:
                    remaining = await asyncio.to_thread(builder.take, remaining, now_ms)
                except LogCorrupt:
                    if builder.is_usable:  # seal the segments before the unreadable one
                        await self._finish_file(run, builder, now_ms)
                    raise
                if builder.is_full:
                    if not await self._finish_file(run, builder, now_ms):
                        return False
                    builder = None
        return builder is None or await self._finish_file(run, builder, now_ms)

    def _begin_file(self, stored: StoredCursor) -> FileBuilder:
        before = SealedLog(self._files, stored.cursor).last_state()
        return FileBuilder(self._keys.cluster, stored.cursor, before, self._file_bytes_max)

    async def _finish_file(self, run: _SealRun, builder: FileBuilder, now_ms: int) -> bool:
        """Returns False if another archiver has committed the cursor first."""
        built = await asyncio.to_thread(builder.finish, now_ms)
        for name, chunks in built.parts:
            await asyncio.to_thread(self._files.write, name, chunks)
        result = await self._commit_cursor(run.stored.revision, CURSOR_CODEC.encode(built.cursor))
        if not result.succeeded:
            for name, _ in built.parts:
                await asyncio.to_thread(self._files.remove, name)
            return False
        run.add_file(StoredCursor(built.cursor, result.revision), built.segments, built.events)
        firsts = {writer: first for writer, (first, _) in built.ranges.items()}
        run.add_deleted(await self._delete_segments(run.stored, firsts))
        return True

    async def _commit_cursor(self, revision: int, cursor: bytes) -> TxnResult:
        key = cursor_key(self._keys)
        guard: Guard = Unchanged(key, revision) if revision else Absent(key)
        try:
            return await self._store.commit([guard], [Put(key, cursor)])
        except StoreFull:  # nothing was written, so the same guard is right for the next try
            if self._free_space is None:
                raise
            await self._free_space()
            return await self._store.commit([guard], [Put(key, cursor)])

    async def _delete_segments(self, stored: StoredCursor, firsts: Mapping[str, int]) -> _Deletion:
        """Delete sealed segments. ``firsts``: writer -> the first segment to delete."""
        deleted = revision = 0
        for batch in _deletion_batches(await self._sealed_ranges_in_etcd(stored, firsts)):
            writes = [
                Delete(self._keys.log(writer, first), self._keys.log(writer, last + 1))
                for writer, first, last in batch
            ]
            # While the cursor is unchanged, the archive has these segments.
            guard = Unchanged(cursor_key(self._keys), stored.revision)
            result = await self._store.commit([guard], writes)
            if not result.succeeded:
                break
            revision = result.revision
            deleted += sum(last - first + 1 for _, first, last in batch)
        return _Deletion(deleted, revision)

    async def _sealed_ranges_in_etcd(
        self, stored: StoredCursor, firsts: Mapping[str, int]
    ) -> list[_SegmentRange]:
        writers = list(firsts)
        ranges: list[_SegmentRange] = []
        for start in range(0, len(writers), RANGES_PER_READ_MAX):
            batch = writers[start : start + RANGES_PER_READ_MAX]
            log, seqs = self._keys.log, stored.cursor.seqs
            gets = [
                Get(log(name, firsts[name]), log(name, seqs[name] + 1), limit=1, keys_only=True)
                for name in batch
            ]
            for writer, answer in zip(batch, (await self._store.read(gets)).ranges, strict=True):
                if answer.kvs:
                    first = firsts[writer]
                    with suppress(ValueError):  # a key written by hand: delete all from ``first``
                        _, first = self._keys.check_segment(answer.kvs[0].key)
                    ranges.append(_SegmentRange(writer, first, seqs[writer]))
        return ranges


class _SealRun:
    def __init__(self, stored: StoredCursor) -> None:
        self.stored = stored
        self.revision = 0
        self._files = self._segments = self._events = self._deleted = 0

    def add_file(self, stored: StoredCursor, segments: int, events: int) -> None:
        self.stored = stored
        self.revision = stored.revision
        self._files += 1
        self._segments += segments
        self._events += events

    def add_deleted(self, deletion: _Deletion) -> None:
        self._deleted += deletion.segments
        self.revision = max(self.revision, deletion.revision)

    def report(self, *, superseded: bool = False) -> SealResult:
        counts = (self._files, self._segments, self._events, self._deleted)
        return SealResult(self.stored.cursor.position, *counts, superseded)


def _first_seqs(stored: StoredCursor) -> dict[str, int]:
    return dict.fromkeys(stored.cursor.seqs, 1)


def _deletion_batches(ranges: list[_SegmentRange]) -> Iterator[list[_SegmentRange]]:
    batch: list[_SegmentRange] = []
    size = 0
    for writer, first, last in ranges:
        for start in range(first, last + 1, DELETED_SEGMENTS_MAX):
            end = min(start + DELETED_SEGMENTS_MAX - 1, last)
            count = end - start + 1
            full = size + count > DELETED_SEGMENTS_MAX or len(batch) >= RANGES_PER_READ_MAX
            if batch and full:
                yield batch
                batch, size = [], 0
            batch.append(_SegmentRange(writer, start, end))
            size += count
    if batch:
        yield batch

"""Pruning: deletes the oldest files of the archive, by age and by size; the rest stays verifiable.

The snapshot after the last deleted file stays, and the cursor has its digest and the chain at that
point: the rest is verified from there, and states before it cannot be read any more. The cursor is
committed first, guarded by its revision, then the files are deleted, the oldest first; the next
prune or seal removes what a crash in between leaves. Only files that are certainly this log's are
deleted, and never the newest one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from hashlib import sha256
from typing import Final, NamedTuple

from core.archive.cursor import (
    CURSOR,
    SNAPSHOT_SUFFIX,
    KeptCursor,
    PrunedPart,
    cursor_key,
    read_cursor,
)
from core.archive.files import Files
from core.archive.leftovers import sweep
from core.archive.sealed_log import FileSummary, SealedLog
from core.errors import LogCorrupt
from core.eventstore.keys import Keys
from core.eventstore.kv import KeyValueStore, Put, Unchanged

ARCHIVE_BYTES_MAX: Final = 64 * 1024**3
"""Default limit on disk: some two billion events, years of a large cluster."""

FILES_KEPT_MIN: Final = 1
"""The newest file is never deleted."""


class Retention(NamedTuple):
    """The files to keep: those sealed within ``age_s``, ``bytes_max`` on disk; 0: no limit."""

    age_s: float = 0.0
    bytes_max: int = ARCHIVE_BYTES_MAX


class Pruned(NamedTuple):
    """The result of one call: ``files`` deleted, ``bytes_freed`` on disk.

    ``position``: states up to it cannot be read any more. ``superseded``: another process has
    changed the cursor, so nothing was deleted; call again.
    """

    position: int
    files: int = 0
    bytes_freed: int = 0
    superseded: bool = False


class Sized(NamedTuple):
    """A file of the chain and its size on disk."""

    summary: FileSummary
    size: int


def surplus(files: Sequence[Sized], retention: Retention, now_ms: int) -> int:
    """The number of the oldest files to delete; ``files`` oldest first. Pure."""
    total = sum(file.size for file in files)
    before_ms = now_ms - retention.age_s * 1000
    count = 0
    for file in files[: max(len(files) - FILES_KEPT_MIN, 0)]:
        is_old = bool(retention.age_s) and file.summary.sealed_at_ms < before_ms
        is_too_much = bool(retention.bytes_max) and total > retention.bytes_max
        if not (is_old or is_too_much):
            break
        total -= file.size
        count += 1
    return count


def sized(sealed: SealedLog) -> list[Sized]:
    """Every file of the archive with its size, oldest first. Raises LogCorrupt."""
    return [Sized(summary, sealed.bytes_of(summary.link)) for summary in sealed.summaries()]


class Pruner:
    """Prunes the archive of one cluster."""

    def __init__(self, store: KeyValueStore, keys: Keys, files: Files) -> None:
        self._store = store
        self._keys = keys
        self._files = files

    async def prune(self, retention: Retention, now_ms: int, *, files: int | None = None) -> Pruned:
        """Delete files beyond the retention, or ``files``; first clean up after a crash.

        Raises StoreUnavailable, OutcomeUnknown (call again), LogCorrupt, OSError.
        """
        stored = await read_cursor(self._store, self._keys)
        sealed = SealedLog(self._files, stored.cursor)
        await asyncio.to_thread(sweep, self._files, sealed, self._keys.cluster)
        sized_files = await asyncio.to_thread(sized, sealed)
        most = max(len(sized_files) - FILES_KEPT_MIN, 0)
        count = surplus(sized_files, retention, now_ms) if files is None else min(files, most)
        if not count:
            return Pruned(stored.cursor.pruned.position)
        mark = await asyncio.to_thread(self._mark, sealed, sized_files[count - 1].summary)
        moved = await self._commit(stored, mark)
        if moved is None:
            return Pruned(stored.cursor.pruned.position, superseded=True)
        await asyncio.to_thread(sweep, self._files, moved, self._keys.cluster)
        return Pruned(mark.position, count, sum(one.size for one in sized_files[:count]))

    def _mark(self, sealed: SealedLog, last: FileSummary) -> PrunedPart:
        """The new first position. Raises LogCorrupt if its snapshot is lost or was changed."""
        file = sealed.open(last.link)
        if sealed.snapshot(last.link) is None:
            raise LogCorrupt(
                f"the snapshot beside {last.link.base} is lost or was changed: nothing is pruned",
                subject=last.link.base,
                remedy="restore it from a copy of the archive",
            )
        data = self._files.view(last.link.base + SNAPSHOT_SUFFIX)
        digest = sha256(data).digest()
        return PrunedPart(last.number, last.link, last.last_position, file.chain_end, digest)

    async def _commit(self, stored: KeptCursor, mark: PrunedPart) -> SealedLog | None:
        key = cursor_key(self._keys)
        cursor = stored.cursor._replace(pruned=mark)
        guard = Unchanged(key, stored.revision)
        result = await self._store.commit([guard], [Put(key, CURSOR.encode(cursor))])
        return SealedLog(self._files, cursor) if result.succeeded else None

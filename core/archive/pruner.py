"""Pruning: deletes the oldest files of the archive, by age and by size.

The cursor is committed first: after a crash, the next prune or seal deletes the files. The snapshot
of the last deleted file is kept; the cursor has its digest and the hash chain, so that readers can
verify the remaining files. The newest file is never deleted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from hashlib import sha256
from typing import Final, NamedTuple

from core.archive.archive_directory import Files
from core.archive.archiver_leftovers import remove_leftovers
from core.archive.cursor import (
    CURSOR_CODEC,
    SNAPSHOT_SUFFIX,
    PrunedPart,
    StoredCursor,
    cursor_key,
    read_cursor,
)
from core.archive.sealed_log import FileSummary, SealedLog
from core.errors import LogCorrupt
from core.eventstore.keys import Keys
from core.eventstore.kv import KeyValueStore, Put, Unchanged

ARCHIVE_BYTES_MAX: Final = 64 * 1024**3
"""Room for some two billion events: years of a large cluster."""

FILES_KEPT_MIN: Final = 1


class Retention(NamedTuple):
    """The limits of the archive; 0: no limit.

    ``age_s``: the time since a file was sealed. ``bytes_max``: the size of all files on disk.
    """

    age_s: float = 0.0
    bytes_max: int = ARCHIVE_BYTES_MAX


class PruneResult(NamedTuple):
    """The result of one prune. States before ``position`` cannot be read any more.

    ``superseded``: another process has changed the cursor, so nothing was deleted; call again.
    """

    position: int
    files: int = 0
    bytes_freed: int = 0
    superseded: bool = False


class SizedFile(NamedTuple):
    """A file of the archive. ``size``: on disk, together with the file's index and snapshot."""

    summary: FileSummary
    size: int


def count_surplus(files: Sequence[SizedFile], retention: Retention, now_ms: int) -> int:
    """How many of the oldest files to delete. ``files``: oldest first."""
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


def sized_files(sealed: SealedLog) -> list[SizedFile]:
    """Every file with its size, oldest first. Raises LogCorrupt."""
    return [SizedFile(summary, sealed.bytes_of(summary.link)) for summary in sealed.summaries()]


class Pruner:
    """Prunes the archive of one cluster."""

    def __init__(self, store: KeyValueStore, keys: Keys, files: Files) -> None:
        self._store = store
        self._keys = keys
        self._files = files

    async def prune(
        self, retention: Retention, now_ms: int, *, files: int | None = None
    ) -> PruneResult:
        """Delete the files beyond the retention, or the ``files`` oldest files if given.

        Raises StoreUnavailable, OutcomeUnknown (call again), LogCorrupt, OSError.
        """
        stored = await read_cursor(self._store, self._keys)
        sealed = SealedLog(self._files, stored.cursor)
        await asyncio.to_thread(remove_leftovers, self._files, sealed, self._keys.cluster)
        all_files = await asyncio.to_thread(sized_files, sealed)
        if files is None:
            count = count_surplus(all_files, retention, now_ms)
        else:
            count = min(files, max(len(all_files) - FILES_KEPT_MIN, 0))
        if not count:
            return PruneResult(stored.cursor.pruned.position)
        part = await asyncio.to_thread(self._pruned_part, sealed, all_files[count - 1].summary)
        remaining = await self._commit(stored, part)
        if remaining is None:
            return PruneResult(stored.cursor.pruned.position, superseded=True)
        await asyncio.to_thread(remove_leftovers, self._files, remaining, self._keys.cluster)
        return PruneResult(part.position, count, sum(file.size for file in all_files[:count]))

    def _pruned_part(self, sealed: SealedLog, last: FileSummary) -> PrunedPart:
        file = sealed.open(last.link)
        snapshot_name = last.link.base + SNAPSHOT_SUFFIX
        if sealed.snapshot(last.link) is None:
            raise LogCorrupt(
                f"old archive files are not deleted, because snapshot {snapshot_name} is lost or"
                " was changed",
                subject=last.link.base,
                remedy="restore it from a copy of the archive",
            )
        data = self._files.view(snapshot_name)
        digest = sha256(data).digest()
        return PrunedPart(last.number, last.link, last.last_position, file.chain_end, digest)

    async def _commit(self, stored: StoredCursor, part: PrunedPart) -> SealedLog | None:
        """Write the cursor; return the remaining archive, None if the guard failed."""
        key = cursor_key(self._keys)
        cursor = stored.cursor._replace(pruned=part)
        guard = Unchanged(key, stored.revision)
        result = await self._store.commit([guard], [Put(key, CURSOR_CODEC.encode(cursor))])
        return SealedLog(self._files, cursor) if result.succeeded else None

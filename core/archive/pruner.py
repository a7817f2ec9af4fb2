"""Pruning: the archive gives up its oldest files, by age and by size, and stays provable.

The state after the last file given up stays as a snapshot, and the cursor names it with its digest
and the chain at that point: what is left is verified from there, and nothing before it can be asked
any more. First the cursor is committed, guarded by its revision, then the files go, the oldest
first; a crash in between leaves leftovers that the next prune or seal sweeps. It never touches a
file that is not certainly this log's, nor the newest one.
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
"""On disk, by default: some two billion events, years of a large cluster."""

FILES_KEPT_MIN: Final = 1
"""However old and large: the newest file stays."""


class Retention(NamedTuple):
    """How much is kept: files sealed within ``age_s``, ``bytes_max`` on disk; 0 for no bound."""

    age_s: float = 0.0
    bytes_max: int = ARCHIVE_BYTES_MAX


class Pruned(NamedTuple):
    """What one call did: ``files`` given up, ``bytes_freed`` on disk.

    ``position``: nothing up to it can be asked any more. ``superseded``: the cursor moved
    meanwhile, so nothing was given up; call again.
    """

    position: int
    files: int = 0
    bytes_freed: int = 0
    superseded: bool = False


class Sized(NamedTuple):
    """A file of the chain and what it takes on disk."""

    summary: FileSummary
    size: int


def surplus(files: Sequence[Sized], retention: Retention, now_ms: int) -> int:
    """How many of the oldest files are to go; ``files`` oldest first. Pure."""
    total = sum(file.size for file in files)
    before_ms = now_ms - retention.age_s * 1000
    gone = 0
    for file in files[: max(len(files) - FILES_KEPT_MIN, 0)]:
        is_old = bool(retention.age_s) and file.summary.sealed_at_ms < before_ms
        is_too_much = bool(retention.bytes_max) and total > retention.bytes_max
        if not (is_old or is_too_much):
            break
        total -= file.size
        gone += 1
    return gone


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
        """Give up what is to go, or a number of files, and finish what a crash left undone.

        Raises StoreUnavailable, OutcomeUnknown (call again), LogCorrupt, OSError.
        """
        kept = await read_cursor(self._store, self._keys)
        sealed = SealedLog(self._files, kept.cursor)
        await asyncio.to_thread(sweep, self._files, sealed, self._keys.cluster)
        found = await asyncio.to_thread(sized, sealed)
        most = max(len(found) - FILES_KEPT_MIN, 0)
        count = surplus(found, retention, now_ms) if files is None else min(files, most)
        if not count:
            return Pruned(kept.cursor.pruned.position)
        mark = await asyncio.to_thread(self._mark, sealed, found[count - 1].summary)
        moved = await self._commit(kept, mark)
        if moved is None:
            return Pruned(kept.cursor.pruned.position, superseded=True)
        await asyncio.to_thread(sweep, self._files, moved, self._keys.cluster)
        return Pruned(mark.position, count, sum(one.size for one in found[:count]))

    def _mark(self, sealed: SealedLog, last: FileSummary) -> PrunedPart:
        """Where the archive is to begin. Raises LogCorrupt without a whole snapshot there."""
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

    async def _commit(self, kept: KeptCursor, mark: PrunedPart) -> SealedLog | None:
        key = cursor_key(self._keys)
        cursor = kept.cursor._replace(pruned=mark)
        guard = Unchanged(key, kept.revision)
        result = await self._store.commit([guard], [Put(key, CURSOR.encode(cursor))])
        return SealedLog(self._files, cursor) if result.succeeded else None

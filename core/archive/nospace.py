"""Archiving while etcd's database is full (alarm NOSPACE).

A full etcd allows reads, deletions and compaction, but no put. A seal needs one put, for the
cursor. If this put fails, space is freed, and the put is retried. To free space: delete the reserve
(a key that only occupies space), compact, defragment, disarm the alarm. A member's database file
shrinks only if defragmentation follows compaction.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple, Protocol

from core.archive.archive_directory import Files
from core.archive.archiver import FILE_BYTES_MAX, Archiver, SealResult
from core.archive.cursor import ArchiveCursor, read_cursor
from core.archive.sealed_log import SealedLog
from core.errors import Compacted, OutcomeUnknown, StoreFull, StoreRejected
from core.eventstore.full_etcd import delete_reserve, make_reserve
from core.eventstore.keys import Keys
from core.eventstore.kv import KeyValueStore
from core.eventstore.writer import unix_ms

ROOT_REMEDY: Final = (
    "as etcd's user root (Secret orbweaver-etcd-root) run `etcdctl defrag` for each member, then"
    " run `orbctl archive` again (docs/how-to/recover-a-full-etcd.md)"
)


class Maintenance(Protocol):
    """Frees space in the members of etcd."""

    async def defragment(self) -> None:
        """Defragment every member. Raises StoreRejected if permission is denied."""
        ...

    async def disarm(self) -> None:
        """Disarm the alarm NOSPACE."""
        ...


class FullSealResult(NamedTuple):
    """The result of the seal. ``is_defragmented``: every member was defragmented."""

    sealed: SealResult
    is_defragmented: bool


class FullLogArchiver:
    """Seals the log while etcd is full, file after file."""

    def __init__(
        self,
        store: KeyValueStore,
        keys: Keys,
        files: Files,
        maintenance: Maintenance,
        *,
        file_bytes_max: int = FILE_BYTES_MAX,
        now_ms: Callable[[], int] = unix_ms,
    ) -> None:
        self._store = store
        self._keys = keys
        self._files = files
        self._maintenance = maintenance
        self._may_defragment = True
        self._archiver = Archiver(
            store,
            keys,
            files,
            file_bytes_max=file_bytes_max,
            now_ms=now_ms,
            free_space=self._free_space,
        )

    async def seal(self, upto: int | None = None) -> FullSealResult:
        """Seal, then defragment and create the reserve.

        Raises the errors of ``Archiver.seal``, and StoreFull if there is still no space.
        """
        before = (await read_cursor(self._store, self._keys)).cursor
        try:
            await self._seal_all(before, upto)
            await self._defragment()
            await self._maintenance.disarm()
            await make_reserve(self._store, self._keys)
        except StoreFull as full:
            if self._may_defragment:
                raise
            raise StoreFull(full.message, subject=full.subject, remedy=ROOT_REMEDY) from full
        after = (await read_cursor(self._store, self._keys)).cursor
        return FullSealResult(self._difference(before, after), self._may_defragment)

    async def _seal_all(self, before: ArchiveCursor, upto: int | None) -> None:
        """Seal until nothing is left. Raises the error of a call that sealed no file.

        Freeing space compacts the revision that the archiver reads: a call can stop after one file.
        """
        position = before.position
        while True:
            try:
                await self._archiver.seal(upto)
            except (Compacted, StoreFull, OutcomeUnknown):
                reached = (await read_cursor(self._store, self._keys)).cursor.position
                if reached == position:
                    raise
                position = reached
            else:
                return

    async def _free_space(self) -> None:
        await self._store.compact(await delete_reserve(self._store, self._keys))
        await self._defragment()
        await self._maintenance.disarm()

    async def _defragment(self) -> None:
        """Ignores a denied permission: an administrator may have defragmented the members."""
        try:
            await self._maintenance.defragment()
        except StoreRejected:
            self._may_defragment = False

    def _difference(self, before: ArchiveCursor, after: ArchiveCursor) -> SealResult:
        segments = sum(after.seqs.values()) - sum(before.seqs.values())
        summaries = SealedLog(self._files, after).summaries()
        events = sum(file.events for file in summaries if file.number > before.files)
        files = after.files - before.files
        return SealResult(after.position, files, segments, events, deleted=segments)

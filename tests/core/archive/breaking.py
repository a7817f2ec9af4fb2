"""A store and archive files that simulate a crash before or after a chosen write."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence

from core.archive.archive_directory import LocalFiles
from core.errors import OutcomeUnknown
from core.eventstore.kv import (
    Get,
    Guard,
    IsWhole,
    KeyValueStore,
    ReadResult,
    TxnResult,
    WatchBatch,
    Write,
)


class Crash(Exception):
    """A simulated crash of the process."""


class CrashingSteps:
    """Counts writes, and raises ``Crash`` before or after the write with number ``crash_at``.

    Call ``before`` and ``done`` around each write.
    """

    def __init__(self, crash_at: int, *, after: bool) -> None:
        self.crash_at = crash_at
        self.after = after
        self.write_count = 0

    @property
    def has_completed(self) -> bool:
        """Whether all work was done in fewer than ``crash_at`` writes, without a crash."""
        return self.write_count < self.crash_at

    def before(self) -> None:
        self.write_count += 1
        if self.write_count == self.crash_at and not self.after:
            raise Crash

    def done(self) -> None:
        if self.write_count == self.crash_at and self.after:
            raise Crash


class BreakingStore:
    """A store whose writes may raise ``Crash``."""

    def __init__(self, store: KeyValueStore, steps: CrashingSteps) -> None:
        self._store = store
        self._steps = steps

    async def commit(
        self, guards: Sequence[Guard], writes: Sequence[Write], otherwise: Sequence[Get] = ()
    ) -> TxnResult:
        self._steps.before()
        result = await self._store.commit(guards, writes, otherwise)
        self._steps.done()
        return result

    async def compact(self, revision: int) -> None:
        self._steps.before()
        await self._store.compact(revision)
        self._steps.done()

    async def alarms(self) -> tuple[str, ...]:
        return await self._store.alarms()

    async def read(self, gets: Sequence[Get], *, revision: int = 0) -> ReadResult:
        return await self._store.read(gets, revision=revision)

    def watch(
        self,
        ranges: Sequence[tuple[bytes, bytes]],
        *,
        after: int,
        is_whole: IsWhole | None = None,
    ) -> AsyncIterator[WatchBatch]:
        return self._store.watch(ranges, after=after, is_whole=is_whole)

    async def grant_lease(self, ttl_s: int) -> int:
        return await self._store.grant_lease(ttl_s)

    async def keep_lease(self, lease: int) -> int:
        return await self._store.keep_lease(lease)

    async def lease_left_s(self, lease: int) -> int:
        return await self._store.lease_left_s(lease)

    async def revoke_lease(self, lease: int) -> None:
        await self._store.revoke_lease(lease)

    async def close(self) -> None:
        await self._store.close()


class BreakingFiles:
    """Archive files; creating or removing a file may raise ``Crash``."""

    def __init__(self, files: LocalFiles, steps: CrashingSteps) -> None:
        self._files = files
        self._steps = steps

    def names(self) -> list[str]:
        return self._files.names()

    def partials(self) -> list[str]:
        return self._files.partials()

    def view(self, name: str) -> memoryview:
        return self._files.view(name)

    def write(self, name: str, chunks: Iterable[bytes]) -> None:
        self._steps.before()
        self._files.write(name, chunks)
        self._steps.done()

    def remove(self, name: str) -> None:
        self._steps.before()
        self._files.remove(name)
        self._steps.done()


class LostAnswerStore(BreakingStore):
    """A ``BreakingStore`` whose commit raises ``OutcomeUnknown`` instead of ``Crash``."""

    async def commit(
        self, guards: Sequence[Guard], writes: Sequence[Write], otherwise: Sequence[Get] = ()
    ) -> TxnResult:
        try:
            return await super().commit(guards, writes, otherwise)
        except Crash:
            raise OutcomeUnknown("the answer was lost") from None

"""A store that simulates the death of its worker at a chosen commit."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from enum import Enum

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
from tests.support.counters import Counters
from tests.support.engine_harness import EngineHarness
from workflows.engine.worker.worker import Worker


class KillMoment(Enum):
    BEFORE = "before the commit"
    AFTER = "after the commit, before its answer"


class KillingStore:
    """A worker's connection to the store. Commit number ``at`` kills the worker.

    After ``died`` is set, commits, reads and lease requests never return.
    """

    def __init__(self, store: KeyValueStore, at: int, moment: KillMoment) -> None:
        self.store = store
        self.commits = 0
        self.died = asyncio.Event()
        self._at = at
        self._moment = moment

    async def commit(
        self, guards: Sequence[Guard], writes: Sequence[Write], otherwise: Sequence[Get] = ()
    ) -> TxnResult:
        await self._require_alive()
        self.commits += 1
        is_last = self.commits == self._at
        if is_last and self._moment is KillMoment.BEFORE:
            await self._die()
        result = await self.store.commit(guards, writes, otherwise)
        if is_last:
            await self._die()
        return result

    async def read(self, gets: Sequence[Get], *, revision: int = 0) -> ReadResult:
        await self._require_alive()
        return await self.store.read(gets, revision=revision)

    def watch(
        self,
        ranges: Sequence[tuple[bytes, bytes]],
        *,
        after: int,
        is_whole: IsWhole | None = None,
    ) -> AsyncIterator[WatchBatch]:
        return self.store.watch(ranges, after=after, is_whole=is_whole)

    async def grant_lease(self, ttl_s: int) -> int:
        await self._require_alive()
        return await self.store.grant_lease(ttl_s)

    async def keep_lease(self, lease: int) -> int:
        await self._require_alive()
        return await self.store.keep_lease(lease)

    async def lease_left_s(self, lease: int) -> int:
        await self._require_alive()
        return await self.store.lease_left_s(lease)

    async def revoke_lease(self, lease: int) -> None:
        await self._require_alive()
        await self.store.revoke_lease(lease)

    async def compact(self, revision: int) -> None:
        await self.store.compact(revision)

    async def alarms(self) -> tuple[str, ...]:
        return await self.store.alarms()

    async def close(self) -> None:
        return

    async def _require_alive(self) -> None:
        """Return if the worker is alive; otherwise never return."""
        if self.died.is_set():
            await asyncio.Event().wait()

    async def _die(self) -> None:
        self.died.set()
        await asyncio.Event().wait()


async def kill(engine: EngineHarness, worker: Worker) -> None:
    Counters.kills += 1
    await engine.kill_worker(worker)

"""Stores for tests: one ignores ``close``, and one simulates network faults.

With a fault, a request is still applied completely or not at all.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from enum import Enum

from core.errors import OutcomeUnknown, StoreUnavailable
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
from core.eventstore.memory_store import MemoryStore


class UnclosedMemoryStore(MemoryStore):
    """A memory store that stays usable after ``close``."""

    async def close(self) -> None:
        """Do nothing: the data must outlive the process."""


class Fault(Enum):
    """The fault of one commit."""

    ANSWER_LOST = "applied; the answer was lost"
    REQUEST_LOST = "request lost; the writer gets OutcomeUnknown"
    REFUSED = "not sent; the writer gets StoreUnavailable"


class FaultyStore:
    """A wrapper that adds faults. ``commits``: the number of attempted commits.

    While ``is_unavailable`` is set, calls raise StoreUnavailable, and watches receive nothing.
    """

    def __init__(self, store: KeyValueStore) -> None:
        self.store = store
        self.commits = 0
        self._available, self._away = asyncio.Event(), asyncio.Event()
        self._available.set()
        self._faults: list[Fault] = []

    @property
    def is_unavailable(self) -> bool:
        return self._away.is_set()

    @is_unavailable.setter
    def is_unavailable(self, value: bool) -> None:
        began, ended = (self._away, self._available) if value else (self._available, self._away)
        ended.clear()
        began.set()

    def fail_next_commits(self, *faults: Fault) -> None:
        """Give each of the next commits one of these faults, in order."""
        self._faults += faults

    def heal(self) -> None:
        """Discard the remaining faults of ``fail_next_commits``."""
        self._faults.clear()

    async def commit(
        self, guards: Sequence[Guard], writes: Sequence[Write], otherwise: Sequence[Get] = ()
    ) -> TxnResult:
        self.commits += 1
        self._require_available()
        fault = self._faults.pop(0) if self._faults else None
        if fault is Fault.REFUSED:
            raise StoreUnavailable("the connection was refused")
        if fault is Fault.REQUEST_LOST:
            raise OutcomeUnknown("the request was lost")
        result = await self.store.commit(guards, writes, otherwise)
        if fault is Fault.ANSWER_LOST:
            raise OutcomeUnknown("the answer was lost")
        return result

    async def read(self, gets: Sequence[Get], *, revision: int = 0) -> ReadResult:
        self._require_available()
        return await self.store.read(gets, revision=revision)

    async def watch(
        self,
        ranges: Sequence[tuple[bytes, bytes]],
        *,
        after: int,
        is_whole: IsWhole | None = None,  # unused: a watch resumes after confirmed revisions
    ) -> AsyncGenerator[WatchBatch, None]:
        """Watch the wrapped store; open the watch again after the store was unavailable.

        As with etcd, the new watch raises Compacted if unreceived changes were compacted.
        """
        position = after
        while True:
            await self._available.wait()
            batches = self.store.watch(ranges, after=position)
            assert isinstance(batches, AsyncGenerator)
            async with aclosing(batches):
                while (batch := await self._next_batch(batches)) is not None:
                    position = batch.revision
                    yield batch

    async def _next_batch(self, batches: AsyncIterator[WatchBatch]) -> WatchBatch | None:
        """The next batch; None if the store becomes unavailable first."""
        receiving = asyncio.ensure_future(anext(batches))
        failing = asyncio.ensure_future(self._away.wait())
        try:
            await asyncio.wait({receiving, failing}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            failing.cancel()
            if not receiving.done():
                receiving.cancel()
                await asyncio.wait({receiving})
        return None if self.is_unavailable else receiving.result()

    async def grant_lease(self, ttl_s: int) -> int:
        self._require_available()
        return await self.store.grant_lease(ttl_s)

    async def keep_lease(self, lease: int) -> int:
        self._require_available()
        return await self.store.keep_lease(lease)

    async def lease_left_s(self, lease: int) -> int:
        self._require_available()
        return await self.store.lease_left_s(lease)

    async def revoke_lease(self, lease: int) -> None:
        self._require_available()
        await self.store.revoke_lease(lease)

    async def compact(self, revision: int) -> None:
        self._require_available()
        await self.store.compact(revision)

    async def alarms(self) -> tuple[str, ...]:
        self._require_available()
        return await self.store.alarms()

    async def close(self) -> None:
        await self.store.close()

    def _require_available(self) -> None:
        if self.is_unavailable:
            raise StoreUnavailable("no endpoint answers")

"""Reports the duration and outcome of each call to a store."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Sequence
from typing import TypeVar

from core.eventstore.etcd.calls import CallObserver
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

T = TypeVar("T")


class ObservedStore:
    """A store that passes calls to another ``KeyValueStore`` and reports them to observers."""

    def __init__(self, store: KeyValueStore, *observers: CallObserver) -> None:
        self._store = store
        self._observers = observers

    async def commit(
        self, guards: Sequence[Guard], writes: Sequence[Write], otherwise: Sequence[Get] = ()
    ) -> TxnResult:
        """See ``KeyValueStore``."""
        return await self._timed("commit", self._store.commit(guards, writes, otherwise))

    async def read(self, gets: Sequence[Get], *, revision: int = 0) -> ReadResult:
        """See ``KeyValueStore``."""
        return await self._timed("read", self._store.read(gets, revision=revision))

    def watch(
        self,
        ranges: Sequence[tuple[bytes, bytes]],
        *,
        after: int,
        is_whole: IsWhole | None = None,
    ) -> AsyncIterator[WatchBatch]:
        """See ``KeyValueStore``. A watch is not reported, because a watch has no duration."""
        return self._store.watch(ranges, after=after, is_whole=is_whole)

    async def grant_lease(self, ttl_s: int) -> int:
        """See ``KeyValueStore``."""
        return await self._timed("grant", self._store.grant_lease(ttl_s))

    async def keep_lease(self, lease: int) -> int:
        """See ``KeyValueStore``."""
        return await self._timed("keep", self._store.keep_lease(lease))

    async def lease_left_s(self, lease: int) -> int:
        """See ``KeyValueStore``."""
        return await self._timed("time_to_live", self._store.lease_left_s(lease))

    async def revoke_lease(self, lease: int) -> None:
        """See ``KeyValueStore``."""
        await self._timed("revoke", self._store.revoke_lease(lease))

    async def compact(self, revision: int) -> None:
        """See ``KeyValueStore``."""
        await self._timed("compact", self._store.compact(revision))

    async def alarms(self) -> tuple[str, ...]:
        """See ``KeyValueStore``."""
        return await self._timed("alarms", self._store.alarms())

    async def close(self) -> None:
        """See ``KeyValueStore``."""
        await self._store.close()

    async def _timed(self, method: str, call: Awaitable[T]) -> T:
        started = time.perf_counter()
        outcome = "ok"
        try:
            return await call
        except BaseException as error:
            # Also CancelledError: ``AgentHealth`` counts a cancelled call as unanswered.
            outcome = type(error).__name__
            raise
        finally:
            seconds = time.perf_counter() - started
            for observer in self._observers:
                observer.on_call(method, seconds, outcome)

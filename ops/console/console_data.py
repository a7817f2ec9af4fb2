"""Reads the data of the console: log, executions and present state."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Final

from core.allocation.cooldown import COOL_DOWN_S
from core.archive.archive_directory import LocalFiles
from core.audit.indexed_log import IndexedLog, LogInstant
from core.eventstore.election import read_leader
from core.eventstore.keys import Keys
from core.eventstore.kv import KeyValueStore
from core.eventstore.writer import unix_ms
from ops.console.event_stream import EventFeed
from ops.console.json_values import COUNT_MAX, time_ms_of
from ops.console.overview import Present
from ops.console.pool_answers import PoolsAt
from ops.settings import CONTROLLER_ROLE
from workflows.engine.client.visibility import Filter, Visibility
from workflows.engine.client.visibility_at_instant import ArchivedHeads, PastVisibility
from workflows.engine.store.archive_files import ARCHIVE_FOLDER, ExecutionFiles
from workflows.engine.store.keys import WorkflowKeys
from workflows.model.policies import ExecutionStatus

POOLS_CACHED_MAX: Final = 4
"""Instants with cached pools. A page makes several requests for one instant."""

QUEUE: Final = "default"
"""The controllers' task queue."""


class ConsoleSource:
    """The data of one cluster. The owner must close ``feed``."""

    def __init__(
        self,
        store: KeyValueStore,
        keys: Keys,
        archive: Path,
        *,
        cluster: str,
        cool_down_s: float = COOL_DOWN_S,
        now_ms: Callable[[], int] = unix_ms,
    ) -> None:
        self.cluster = cluster
        self.log = IndexedLog(store, keys, LocalFiles(archive), now_ms=now_ms)
        self.feed = EventFeed(store, keys, self.log)
        self._store = store
        self._keys = keys
        self._files = ExecutionFiles(archive / ARCHIVE_FOLDER)
        self._archived_heads = ArchivedHeads(self._files)
        self._cool_down_s = cool_down_s
        self._pools: OrderedDict[tuple[int, int], PoolsAt] = OrderedDict()

    async def instant(self, at: str) -> LogInstant:
        """The instant that ``at`` names; "" is now.

        Raises BadInput, PrunedAway, and the errors of ``IndexedLog.newest``.
        """
        if not at:
            return await self.log.now()
        if at.isdecimal() and len(at) <= len(str(COUNT_MAX)):
            return await self.log.at_position(int(at))
        return await self.log.at_time(time_ms_of(at, "at", or_position=True))

    def pools(self, instant: LogInstant) -> PoolsAt:
        """The pools of an instant, cached."""
        # At present, forecasts and cool-downs change without an event: cache these pools for 1 s.
        key = instant.position, instant.time_ms // 1000 if instant.is_now else instant.time_ms
        pools = self._pools.pop(key, None)
        if pools is None:
            pools = PoolsAt(instant, self._cool_down_s)
            while len(self._pools) >= POOLS_CACHED_MAX:
                self._pools.popitem(last=False)
        self._pools[key] = pools
        return pools

    def visibility(self) -> Visibility:
        """A reader of the executions."""
        return Visibility(self._store, WorkflowKeys(self._keys, QUEUE), self._files)

    def past_visibility(self, instant: LogInstant) -> PastVisibility:
        """A reader of the executions at an instant."""
        keys, now_ms = WorkflowKeys(self._keys, QUEUE), self.log.now_ms()
        return PastVisibility(self._store, keys, self._archived_heads, instant.time_ms, now_ms)

    async def present(self) -> Present:
        """State that is in etcd but not in the log. Raises StoreUnavailable."""
        leader_and_epoch = await read_leader(self._store, self._keys, CONTROLLER_ROLE)
        leader = leader_and_epoch[0] if leader_and_epoch else None
        paused = Filter(statuses=(ExecutionStatus.PAUSED,))
        return Present(
            leader=leader.name if leader else "",
            leads_since_ms=leader.since_ms if leader else 0,
            store_alarms=await self._store.alarms(),
            paused_executions=len([head async for head in self.visibility().heads(paused)]),
        )

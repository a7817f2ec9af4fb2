"""What every execution of a worker needs: one place instead of ten parameters."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import NamedTuple

from core.eventstore.kv import KeyValueStore
from workflows.api.definitions import Registry
from workflows.engine.clock import Clock
from workflows.engine.store.committer import Committer
from workflows.engine.store.faults import WorkerFaults
from workflows.engine.store.keys import WorkflowKeys
from workflows.engine.store.records import RunHead
from workflows.engine.telemetry import Telemetry
from workflows.engine.worker.activities import ActivityHost
from workflows.engine.worker.deadlines import Deadlines
from workflows.model.limits import STICKY_CACHE_RUNS_MAX

Evict = Callable[[], None]


class StickyCache:
    """Which interpreters are warm, the least recently used first; a bounded number."""

    def __init__(self, size: int = STICKY_CACHE_RUNS_MAX) -> None:
        self._size = size
        self._warm: OrderedDict[Hashable, Evict] = OrderedDict()

    def __len__(self) -> int:
        return len(self._warm)

    @property
    def keeps_nothing(self) -> bool:
        """Whether no interpreter outlives its workflow task."""
        return not self._size

    def used(self, owner: Hashable, evict: Evict) -> None:
        """``owner`` has a warm interpreter; the coldest one may have to go."""
        self._warm[owner] = evict
        self._warm.move_to_end(owner)
        if len(self._warm) > max(self._size, 1):
            _, evict_coldest = self._warm.popitem(last=False)
            evict_coldest()

    def forget(self, owner: Hashable) -> None:
        """It has none any more."""
        self._warm.pop(owner, None)


class WorkerContext(NamedTuple):
    """One worker's means."""

    store: KeyValueStore
    keys: WorkflowKeys
    committer: Committer
    registry: Registry
    clock: Clock
    alarms: Deadlines
    activities: ActivityHost
    cache: StickyCache
    telemetry: Telemetry
    identity: str
    background: set[asyncio.Task[None]]
    faults: WorkerFaults
    closings: Callable[[RunHead], None]
    dispossessed: Callable[[int], None]

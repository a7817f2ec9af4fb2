"""Closed executions leave the store: after a time, or when a shard holds too many of them.

Each becomes one file of the archive (``workflows.engine.store.archive_files``), durable before the
keys go; after ``ARCHIVE_RETENTION_S`` the file goes too. The closed runs of a shard are read once
by each owner, who then knows of every further one: a step costs what it retires. Nothing here
touches an open execution.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
from typing import NamedTuple

from core.errors import UnusableValue
from core.eventstore.group_commit import Committed
from core.eventstore.kv import Delete, Get, KeyValue, Unchanged
from workflows.engine.store.archive_files import ExecutionFiles
from workflows.engine.store.history_reader import closed_head_of, read_whole_history
from workflows.engine.store.records import RunHead
from workflows.engine.worker.interpreter_cache import WorkerContext

RETENTION_S = 24 * 3600.0
"""How long a closed execution stays in the store."""

CLOSED_PER_SHARD_MAX = 10_000
"""Closed executions of a shard; above it the oldest leave early."""

ARCHIVE_RETENTION_S = 90 * 24 * 3600.0
"""How long an archived execution is kept, from the end of the day on which it closed."""

SWEEP_S = 300.0
"""Between two looks at what has been closed."""

RETIRED_PER_STEP_MAX = 500
"""Executions of one shard that one step archives; the next step follows at once."""

_log = logging.getLogger(__name__)


class Archive(NamedTuple):
    """Where closed executions go, and when."""

    files: ExecutionFiles
    retention_s: float = RETENTION_S
    sweep_s: float = SWEEP_S
    closed_max: int = CLOSED_PER_SHARD_MAX
    archive_retention_s: float = ARCHIVE_RETENTION_S


class ClosedRuns:
    """The closed runs of one shard, the oldest first: (closed_ms, workflow id, run id)."""

    def __init__(self, desk: WorkerContext, shard: int) -> None:
        self._desk = desk
        self._shard = shard
        self._heap: list[tuple[int, str, str]] = []
        self._is_read = False
        self._closed_meanwhile: list[RunHead] | None = None

    def add(self, head: RunHead) -> None:
        """A run has closed. Before the shard is read this tells nothing new."""
        if self._is_read:
            heapq.heappush(self._heap, _entry(head))
        elif self._closed_meanwhile is not None:
            self._closed_meanwhile.append(head)

    def put_back(self, entry: tuple[int, str, str]) -> None:
        """It could not be archived now."""
        heapq.heappush(self._heap, entry)

    async def read(self) -> None:
        """Once: what has been closed before this owner came. Raises StoreUnavailable."""
        if self._is_read:
            return
        keys = self._desk.keys
        self._closed_meanwhile = []
        found = (await self._desk.store.read([Get(*keys.room("closed", self._shard))])).ranges[0]
        entries = {_entry(head) for head in self._closed_meanwhile}
        for kv in found.kvs:
            try:
                entries.add(_entry(closed_head_of(keys, kv)))
            except UnusableValue as error:
                self._desk.faults.add(error, shard=self._shard)
        self._heap = sorted(entries)
        self._closed_meanwhile = None
        self._is_read = True

    def take_due(self, before_ms: int, closed_max: int) -> tuple[int, str, str] | None:
        """The next one that closed before this moment, or is one too many."""
        if self._heap and (self._heap[0][0] <= before_ms or len(self._heap) > closed_max):
            return heapq.heappop(self._heap)
        return None


def _entry(head: RunHead) -> tuple[int, str, str]:
    return head.closed_ms, head.workflow_id, head.run_id


async def retire(
    desk: WorkerContext, closed: ClosedRuns, fence: Unchanged, archive: Archive
) -> int:
    """Archive what is due in a shard, as far as a step goes; how many.

    Raises SessionLost, StoreUnavailable, OSError.
    """
    await closed.read()
    before_ms = desk.clock.now_ms() - round(archive.retention_s * 1000)
    retired = 0
    while retired < RETIRED_PER_STEP_MAX:
        entry = closed.take_due(before_ms, archive.closed_max)
        if entry is None:
            break
        try:
            await _retire_one(desk, fence, archive, entry)
        except UnusableValue as error:
            desk.faults.add(error)  # it stays in the store, and in nobody's way
            continue
        except BaseException:
            closed.put_back(entry)
            raise
        retired += 1
    return retired


async def _retire_one(
    desk: WorkerContext, fence: Unchanged, archive: Archive, entry: tuple[int, str, str]
) -> None:
    _, workflow_id, run_id = entry
    keys = desk.keys
    key = keys.closed(workflow_id, run_id)
    found: tuple[KeyValue, ...] = (await desk.store.read([Get(key)])).ranges[0].kvs
    if not found:
        return
    head = closed_head_of(keys, found[0])
    events = await read_whole_history(desk.store, keys, head)
    await asyncio.to_thread(archive.files.write, head, events)
    writes = [
        Delete(key),
        Delete(*keys.history(workflow_id, run_id)),
        Delete(*keys.attempts(workflow_id, run_id)),
    ]
    outcome = await desk.committer.propose([fence], writes)
    if not isinstance(outcome, Committed):
        _log.info("workflow %s, run %s, is archived by its new owner", workflow_id, run_id)


async def prune(desk: WorkerContext, archive: Archive) -> int:
    """Delete archived executions that are too old, as far as a step goes. Raises OSError."""
    before_ms = desk.clock.now_ms() - round(archive.archive_retention_s * 1000)
    return await asyncio.to_thread(archive.files.prune, before_ms)

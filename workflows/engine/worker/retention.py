"""Retention: closed executions are archived after a time, or earlier if a shard has too many.

An execution is written to an archive file before its keys are deleted. After
``ARCHIVE_RETENTION_S`` the file is deleted.
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
from workflows.engine.store.draft import ExecutionStore
from workflows.engine.store.history_reader import closed_head_of
from workflows.engine.store.records import RunHead

RETENTION_S = 24 * 3600.0
"""Seconds that a closed execution stays in the store."""

CLOSED_PER_SHARD_MAX = 10_000
"""Closed executions of a shard; above this number the oldest are archived early."""

ARCHIVE_RETENTION_S = 90 * 24 * 3600.0
"""Seconds that an archived execution is kept after the day on which it closed."""

SWEEP_S = 300.0
"""Seconds between two passes over the closed executions."""

RETIRED_PER_STEP_MAX = 500

_log = logging.getLogger(__name__)


class Archive(NamedTuple):
    """The archive of closed executions, and the limits of retention."""

    files: ExecutionFiles
    retention_s: float = RETENTION_S
    sweep_s: float = SWEEP_S
    closed_max: int = CLOSED_PER_SHARD_MAX
    archive_retention_s: float = ARCHIVE_RETENTION_S


class ClosedRuns:
    """The closed runs of one shard, the oldest first: (closed_ms, workflow id, run id)."""

    def __init__(self, store: ExecutionStore, shard: int) -> None:
        self._store = store
        self.shard = shard
        self._heap: list[tuple[int, str, str]] = []
        self._is_read = False
        self._closed_while_reading: list[RunHead] | None = None

    def add(self, head: RunHead) -> None:
        """Add a run that has closed. Before ``read`` starts, do nothing: ``read`` finds the run."""
        if self._is_read:
            heapq.heappush(self._heap, _entry(head))
        elif self._closed_while_reading is not None:
            self._closed_while_reading.append(head)

    def put_back(self, entry: tuple[int, str, str]) -> None:
        """Put back a run that could not be archived."""
        heapq.heappush(self._heap, entry)

    async def read(self) -> None:
        """Read the closed runs from the store, once. Raises StoreUnavailable."""
        if self._is_read:
            return
        keys = self._store.keys
        self._closed_while_reading = []
        get = Get(*keys.range_of("closed", self.shard))
        answer = (await self._store.kv.read([get])).ranges[0]
        entries = {_entry(head) for head in self._closed_while_reading}
        for kv in answer.kvs:
            try:
                entries.add(_entry(closed_head_of(keys, kv)))
            except UnusableValue as error:
                self._store.faults.add(error, shard=self.shard)
        self._heap = sorted(entries)
        self._closed_while_reading = None
        self._is_read = True

    def take_due(self, before_ms: int, closed_max: int) -> tuple[int, str, str] | None:
        """Remove and return the oldest run if it closed by ``before_ms``.

        If there are more than ``closed_max`` runs, the oldest is due at any age.
        """
        if self._heap and (self._heap[0][0] <= before_ms or len(self._heap) > closed_max):
            return heapq.heappop(self._heap)
        return None


def _entry(head: RunHead) -> tuple[int, str, str]:
    return head.closed_ms, head.workflow_id, head.run_id


async def retire(
    store: ExecutionStore, closed: ClosedRuns, fence: Unchanged, archive: Archive
) -> int:
    """Archive at most ``RETIRED_PER_STEP_MAX`` due executions of a shard. Returns their number.

    ``fence`` fails once the shard has another owner.
    Raises SessionLost, StoreUnavailable, OSError.
    """
    await closed.read()
    before_ms = store.clock.now_ms() - round(archive.retention_s * 1000)
    retired = 0
    while retired < RETIRED_PER_STEP_MAX:
        entry = closed.take_due(before_ms, archive.closed_max)
        if entry is None:
            break
        try:
            await _retire_one(store, fence, archive, entry)
        except UnusableValue as error:
            store.faults.add(error, shard=closed.shard)  # the execution stays in the store
            continue
        except BaseException:
            closed.put_back(entry)
            raise
        retired += 1
    return retired


async def _retire_one(
    store: ExecutionStore, fence: Unchanged, archive: Archive, entry: tuple[int, str, str]
) -> None:
    _, workflow_id, run_id = entry
    keys = store.keys
    key = keys.closed(workflow_id, run_id)
    stored: tuple[KeyValue, ...] = (await store.kv.read([Get(key)])).ranges[0].kvs
    if not stored:
        return
    head = closed_head_of(keys, stored[0])
    events = await store.history(head)
    await asyncio.to_thread(archive.files.write, head, events)
    writes = [
        Delete(key),
        Delete(*keys.history(workflow_id, run_id)),
        Delete(*keys.attempts(workflow_id, run_id)),
    ]
    outcome = await store.committer.propose([fence], writes)
    if not isinstance(outcome, Committed):
        _log.info("run %s of workflow %s is archived by its new owner", run_id, workflow_id)


async def prune(store: ExecutionStore, archive: Archive) -> int:
    """Delete some files that are older than ``archive_retention_s``.

    Returns the number of deleted files, 0 if none is left. Raises OSError.
    """
    before_ms = store.clock.now_ms() - round(archive.archive_retention_s * 1000)
    return await asyncio.to_thread(archive.files.prune, before_ms)

"""The work of one session of a worker: claim a share of the shards, and run their executions.

All writes except replies go through the session's committer, which commits nothing after the
session has expired.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from core.errors import StoreUnavailable
from core.eventstore.kv import Absent, Get, KeyChange, Put, ReadResult, Unchanged
from core.eventstore.retry_policies import retry_unavailable
from workflows.engine.run.execution import ExecutionParts
from workflows.engine.store.records import RunHead
from workflows.engine.store.session import WorkerSession
from workflows.engine.store.unusable_values import DECODING_ERRORS
from workflows.engine.worker.ownership import Ownership
from workflows.engine.worker.retention import Archive, prune, retire
from workflows.engine.worker.shard import Shard

DRAIN_S_MAX = 5.0
"""Seconds that ``drain`` waits for running attempts; it waits as long again for steps."""

CHANGES_PER_PASS = 16
"""Changes that one pass of the event loop handles; changes of one execution stay in one pass."""

_log = logging.getLogger(__name__)


class WorkerTerm:
    """The work of one session. ``ready`` is set once the worker owns its share of the shards."""

    def __init__(
        self,
        parts: ExecutionParts,
        session: WorkerSession,
        *,
        on_closed: Callable[[RunHead], None],
        ready: asyncio.Event,
        archive: Archive | None,
    ) -> None:
        self.parts = parts
        self.session = session
        self.shards: dict[int, Shard] = {}
        self._on_closed = on_closed
        self._ready = ready
        self._archive = archive
        self._owners_changed = asyncio.Event()
        self._store = store = parts.store
        self._telemetry = parts.interpreter_parts.telemetry
        self._owner_reads = [
            Get(*store.keys.range_of("wake/owner")),
            Get(*store.keys.range_of("wake/worker")),
        ]
        self._ownership = Ownership(
            store.keys,
            session,
            store.committer,
            store.faults,
            start_shard=self._start_shard,
            stop_shard=self._stop_shard,
        )
        self._tasks: list[asyncio.Task[None]] = []

    # ------------------------------------------------------------------------------- shards

    async def _start_shard(self, shard: int, fence: Unchanged) -> None:
        if shard in self.shards:  # this worker lost the owner key, and claimed the shard again
            await self._stop_shard(shard)
        loaded = Shard(
            self.parts, shard, fence, run_closed=self._on_closed, lost=self._note_lost_shard
        )
        self.shards[shard] = loaded
        self._telemetry.count_shard_takeover()
        await retry_unavailable()(loaded.load)

    async def _stop_shard(self, shard: int) -> None:
        stopped = self.shards.pop(shard)
        stopped.stop()
        await stopped.settled()
        self._store.faults.clear_shard(shard)

    def _note_lost_shard(self, shard: int) -> None:
        self.shards.pop(shard, None)
        self._store.faults.clear_shard(shard)
        self.session.lose()

    # ------------------------------------------------------------------------------ running

    async def run(self) -> None:
        """Work until the session is lost. Raises errors that are not retried."""
        stored: ReadResult = await retry_unavailable()(self._store.kv.read, self._owner_reads)
        await self._ownership.register()
        await self._record_workflow_types()
        self._owners_changed.set()
        work = [
            self._watch(stored.revision),
            self._balance(),
            self.parts.deadlines.run(),
            self._retire(),
        ]
        self._tasks = [asyncio.ensure_future(part) for part in work]
        lost = asyncio.ensure_future(self.session.lost.wait())
        try:
            done, _ = await asyncio.wait({lost, *self._tasks}, return_when=asyncio.FIRST_COMPLETED)
            for task in done - {lost}:
                task.result()
        finally:
            lost.cancel()
            await self.end()

    async def _record_workflow_types(self) -> None:
        store = self._store
        keys = [store.keys.type(name) for name in self.parts.interpreter_parts.registry.workflows]
        writes = [store.committer.propose([Absent(key)], [Put(key, b"")]) for key in keys]
        await asyncio.gather(*writes)

    async def end(self) -> None:
        """End the session, and stop all shards and tasks."""
        self.session.abandon()
        for shard in list(self.shards.values()):
            shard.stop()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def tasks_under_way(self) -> set[asyncio.Task[Any]]:
        """Steps, messages, replies and attempts that have not ended."""
        activities = self.parts.activities
        under_way = {
            *self.parts.replies.tasks,
            *activities.activity_tasks,
            *activities.attempt_tasks,
        }
        return under_way.union(*(shard.tasks_under_way() for shard in self.shards.values()))

    async def drain(self) -> None:
        """Wait for running attempts, and then for running steps."""
        with suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_S_MAX):
                await self.parts.activities.idle()
        with suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_S_MAX):
                for shard in list(self.shards.values()):
                    await shard.settled()

    async def _watch(self, revision: int) -> None:
        keys = self._store.keys
        async for batch in self._store.kv.watch([keys.range_of("wake")], after=revision):
            # Sorted so that one pass handles a signal and the signal fence of the same transaction:
            # without the fence's new revision, the run could not close.
            changes = sorted(
                (change.mod_revision, keys.wake_order(change.key), change)
                for change in batch.changes
            )
            processed, last = 0, b""
            for _, order, change in changes:
                execution_prefix = order[: order.rfind(b"/") + 1]
                if processed >= CHANGES_PER_PASS and execution_prefix != last:
                    processed = 0
                    await asyncio.sleep(0)
                self._process(change)
                processed, last = processed + 1, execution_prefix

    def _process(self, change: KeyChange) -> None:
        try:
            self._dispatch(change)
        except DECODING_ERRORS as error:
            remedy = "delete the key: nothing reads it"
            self._store.faults.note("key", change.key, error, remedy)

    def _dispatch(self, change: KeyChange) -> None:
        # The name of an execution's key begins with <shard: two hexadecimal digits>/<workflow id>.
        kind, name = self._store.keys.wake_parts(change.key)
        if kind in ("owner", "worker"):
            if self._ownership.apply_change(change):
                self._owners_changed.set()
            return
        if change.value is None:
            if self._store.faults.shards:
                self._store.faults.clear(change.key)
            return
        shard = self.shards.get(int(name[:2], 16))
        if shard is None:
            return
        if kind == "inbox":
            shard.receive_message(change.key, change.value, change.mod_revision)
        else:
            shard.receive_signal(name[3:], change.mod_revision)

    async def _balance(self) -> None:
        while True:
            await self._owners_changed.wait()
            self._owners_changed.clear()
            stored: ReadResult = await retry_unavailable()(self._store.kv.read, self._owner_reads)
            await self._ownership.balance(kv for answer in stored.ranges for kv in answer.kvs)
            self._ready.set()

    async def _retire(self) -> None:
        archive = self._archive
        if archive is None:
            await asyncio.Event().wait()  # until cancelled: there is nothing to retire
            return
        while True:
            await asyncio.sleep(archive.sweep_s)
            try:
                for shard in list(self.shards.values()):
                    while await retire(self._store, shard.closed_runs, shard.fence, archive):
                        pass
                while await prune(self._store, archive):
                    pass
            except OSError as error:
                _log.warning(
                    "cannot change the files of archived executions; closed executions stay in"
                    " etcd, and the next pass tries again: %s",
                    error,
                )
            except StoreUnavailable as error:
                _log.warning("cannot archive closed executions, retry in the next pass: %s", error)

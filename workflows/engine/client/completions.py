"""Waits for executions to close, with one watch for all waiters of a client.

A waiter is registered before the store is read, so that it gets every later change.
"""

from __future__ import annotations

import asyncio
import contextlib
from contextvars import Context
from typing import NamedTuple

from core.errors import Compacted, ExecutionNotFound, LogCorrupt, StoreUnavailable
from core.eventstore.kv import (
    FROM_NOW,
    TXN_OPERATIONS_MAX,
    Get,
    KeyValue,
    KeyValueStore,
    ReadResult,
)
from workflows.engine.store.archive_files import ExecutionFiles, read_archived
from workflows.engine.store.history_reader import closed_head_of, head_of
from workflows.engine.store.keys import WorkflowKeys
from workflows.engine.store.records import RunHead

ABSENT_S_MAX = 10.0
"""How long to wait for a missing run, which a reset may still create."""

POLL_S = 0.5

RUNS_PER_READ_MAX = TXN_OPERATIONS_MAX // 2
"""Each run takes two operations of a read."""


class _OpenCheck(NamedTuple):
    workflow_id: str
    run_id: str
    answer: asyncio.Future[bool]


class Completions:
    """Waits for the heads (stored states) of closed runs. ``files``: the archive."""

    def __init__(
        self, store: KeyValueStore, keys: WorkflowKeys, files: ExecutionFiles | None = None
    ) -> None:
        self._store = store
        self._keys = keys
        self._files = files
        self._waiters: dict[str, list[asyncio.Future[RunHead | None]]] = {}
        self._watch_task: asyncio.Task[None] | None = None
        self._watch_started = asyncio.Event()
        self._watched_revision = 0
        """The watch has returned all changes up to this revision."""
        self._checks: list[_OpenCheck] = []
        self._check_task: asyncio.Task[None] | None = None

    async def of(self, workflow_id: str, run_id: str, opened_at: int = 0) -> RunHead:
        """Wait until a run is closed, and return its head, from the store or the archive.

        ``opened_at``: a revision at which the run was open, 0 if unknown. Raises ExecutionNotFound,
        LogCorrupt for a head that cannot be read, StoreUnavailable.
        """
        absent_s = 0.0
        while True:
            await self._ensure_watch()
            future = self._register_waiter(run_id)
            try:
                # A watch that has not reached ``opened_at`` will deliver the end of the run.
                if self._watched_revision < opened_at or await self._is_open(workflow_id, run_id):
                    head = await future
                elif future.done():
                    head = future.result()
                else:
                    archived_run = await read_archived(self._files, run_id)
                    if archived_run is not None:
                        return archived_run[0]
                    if absent_s >= ABSENT_S_MAX:
                        raise _not_found(workflow_id, run_id)
                    absent_s += POLL_S
                    await asyncio.wait({future}, timeout=POLL_S)
                    head = future.result() if future.done() else None
            finally:
                self._forget(run_id, future)
            if head is not None:
                return head
            opened_at = 0

    def _register_waiter(self, run_id: str) -> asyncio.Future[RunHead | None]:
        """A future of the closed run's head. None: the watch missed changes, so read again."""
        future: asyncio.Future[RunHead | None] = asyncio.get_running_loop().create_future()
        self._waiters.setdefault(run_id, []).append(future)
        return future

    def _forget(self, run_id: str, future: asyncio.Future[RunHead | None]) -> None:
        waiters = self._waiters.get(run_id, [])
        if future in waiters:
            waiters.remove(future)
            if not waiters:
                del self._waiters[run_id]

    async def _is_open(self, workflow_id: str, run_id: str) -> bool:
        """Whether the run is open. If it is closed, its waiters get the head."""
        check = _OpenCheck(workflow_id, run_id, asyncio.get_running_loop().create_future())
        self._checks.append(check)
        if self._check_task is None or self._check_task.done():
            self._check_task = asyncio.ensure_future(self._check_all())
        return await check.answer

    async def _check_all(self) -> None:
        while self._checks:
            await asyncio.sleep(0)  # concurrent checks share one read
            checks = self._checks[:RUNS_PER_READ_MAX]
            self._checks = self._checks[RUNS_PER_READ_MAX:]
            try:
                await self._check(checks)
            except Exception as error:  # noqa: BLE001 - raised by the futures
                for check in checks:
                    if not check.answer.done():
                        check.answer.set_exception(error)

    async def _check(self, checks: list[_OpenCheck]) -> None:
        keys = self._keys
        closed = [Get(keys.closed(check.workflow_id, check.run_id)) for check in checks]
        opened = [Get(keys.open(check.workflow_id)) for check in checks]
        ranges = (await self._store.read([*closed, *opened])).ranges
        for answer in ranges[: len(checks)]:
            for kv in answer.kvs:
                self._note(kv)
        for check, answer in zip(checks, ranges[len(checks) :], strict=True):
            if check.answer.done():
                continue  # the caller was cancelled
            heads = [head_of(keys, kv) for kv in answer.kvs]
            check.answer.set_result(any(head.run_id == check.run_id for head in heads))

    def note_closed(self, head: RunHead) -> None:
        """Pass the head of a closed run to its waiters."""
        self._complete(head.run_id, head)

    def _complete(self, run_id: str, head: RunHead | None) -> None:
        for future in self._waiters.pop(run_id, []):
            if not future.done():
                future.set_result(head)

    def close(self) -> None:
        """Stop the watch."""
        if self._watch_task is not None:
            self._watch_task.cancel()

    async def _ensure_watch(self) -> None:
        """Wait until the watch has started. Raises the error of the watch."""
        if (
            self._watch_started.is_set()
            and self._watch_task is not None
            and not self._watch_task.done()
        ):
            return
        if self._watch_task is None or self._watch_task.done():
            self._watch_started.clear()
            # The watch serves all callers, so it must not continue the trace of the first caller.
            self._watch_task = asyncio.get_running_loop().create_task(
                self._watch(), context=Context()
            )
            self._watch_task.add_done_callback(self._watch_ended)
        started = asyncio.ensure_future(self._watch_started.wait())
        try:
            await asyncio.wait({started, self._watch_task}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            started.cancel()
        if self._watch_task.done():
            self._watch_task.result()

    def _watch_ended(self, watch_task: asyncio.Task[None]) -> None:
        if watch_task.cancelled():
            return
        error = watch_task.exception() or StoreUnavailable(
            "the watch of closed executions ended", remedy="try again"
        )
        for run_id in list(self._waiters):
            self._fail(run_id, error)

    async def _watch(self) -> None:
        closed, after = self._keys.range_of("closed"), FROM_NOW
        while True:
            try:
                async for batch in self._store.watch([closed], after=after):
                    self._watched_revision = after = batch.revision
                    self._watch_started.set()
                    for change in batch.changes:
                        if change.value is not None and self._waiters:
                            self._note(KeyValue(change.key, change.value, 0, change.mod_revision))
            except Compacted:
                after = await self._read_all()

    def _note(self, kv: KeyValue) -> None:
        with contextlib.suppress(ValueError):  # not the key of a run
            run_id = self._keys.closed_parts(kv.key)[1]
            if run_id not in self._waiters:
                return
            try:
                self.note_closed(closed_head_of(self._keys, kv))
            except LogCorrupt as error:
                self._fail(run_id, error)

    def _fail(self, run_id: str, error: BaseException) -> None:
        for future in self._waiters.pop(run_id, []):
            if not future.done():
                future.set_exception(error)

    async def _read_all(self) -> int:
        """Read all closed runs. The waiters for other runs read again. Returns the revision."""
        result: ReadResult = await self._store.read([Get(*self._keys.range_of("closed"))])
        self._watched_revision = result.revision
        for kv in result.ranges[0].kvs:
            self._note(kv)
        for run_id in list(self._waiters):
            self._complete(run_id, head=None)
        return result.revision


def _not_found(workflow_id: str, run_id: str) -> ExecutionNotFound:
    return ExecutionNotFound(
        f"run {run_id} of workflow {workflow_id} is neither in the store nor in the archive",
        subject=workflow_id,
        remedy="check `orbctl workflow list`, or another copy of the archive",
    )

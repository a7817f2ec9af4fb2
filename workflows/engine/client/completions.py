"""Waiting for executions to close: one watch for all waiters of a client.

A waiter is registered before the store is read, so nothing is missed in between. A run that is
neither open nor closed in the store is archived, or is not there: nobody waits for it for ever.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import NamedTuple

from core.errors import Compacted, ExecutionNotFound, LogCorrupt, StoreUnavailable
from core.eventstore.kv import TXN_OPERATIONS_MAX, Get, KeyValue, KeyValueStore, ReadResult
from workflows.engine.store.archive_files import ExecutionFiles, archived
from workflows.engine.store.history_reader import closed_head_of, head_of
from workflows.engine.store.keys import WorkflowKeys
from workflows.engine.store.records import RunHead

ABSENT_S_MAX = 10.0
"""How long a run that is nowhere is waited for: a reset may still be about to make it."""

LOOK_S = 0.5
"""Between two looks for such a run."""

READS_MAX = TXN_OPERATIONS_MAX // 2


class _Asked(NamedTuple):
    workflow_id: str
    run_id: str
    answer: asyncio.Future[bool]


class Completions:
    """Closed heads as they come, by run. ``files``: the archive, where there is one."""

    def __init__(
        self, store: KeyValueStore, keys: WorkflowKeys, files: ExecutionFiles | None = None
    ) -> None:
        self._store = store
        self._keys = keys
        self._files = files
        self._waiting: dict[str, list[asyncio.Future[RunHead | None]]] = {}
        self._watching: asyncio.Task[None] | None = None
        self._since = asyncio.Event()
        self._followed = 0
        """The revision up to which the watch has told what was closed."""
        self._asked: list[_Asked] = []
        self._looking: asyncio.Task[None] | None = None

    async def of(self, workflow_id: str, run_id: str, opened_at: int = 0) -> RunHead:
        """The closed head of a run, once it is there, from the archive if it has left the store.

        ``opened_at``: a revision at which the run was open, 0 if none is known.
        Raises ExecutionNotFound, LogCorrupt for a head that cannot be read, StoreUnavailable.
        """
        absent_s = 0.0
        while True:
            await self._watched()
            future = self._wait_for(run_id)
            try:
                # A watch that has not come so far will tell the end: there is nothing to look up.
                if self._followed < opened_at or await self._is_open(workflow_id, run_id):
                    head = await future
                elif future.done():
                    head = future.result()
                else:
                    found = await archived(self._files, run_id)
                    if found is not None:
                        return found[0]
                    if absent_s >= ABSENT_S_MAX:
                        raise _not_found(workflow_id, run_id)
                    absent_s += LOOK_S
                    await asyncio.wait({future}, timeout=LOOK_S)
                    head = future.result() if future.done() else None
            finally:
                self._forget(run_id, future)
            if head is not None:
                return head
            opened_at = 0

    def _wait_for(self, run_id: str) -> asyncio.Future[RunHead | None]:
        """The closed head, or None: the watch has missed something, so look again."""
        future: asyncio.Future[RunHead | None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(run_id, []).append(future)
        return future

    def _forget(self, run_id: str, future: asyncio.Future[RunHead | None]) -> None:
        waiting = self._waiting.get(run_id, [])
        if future in waiting:
            waiting.remove(future)
            if not waiting:
                del self._waiting[run_id]

    async def _is_open(self, workflow_id: str, run_id: str) -> bool:
        """Whether the run is open; if it is closed, its waiters are told.

        Those who ask at the same time share one read.
        """
        asked = _Asked(workflow_id, run_id, asyncio.get_running_loop().create_future())
        self._asked.append(asked)
        if self._looking is None or self._looking.done():
            self._looking = asyncio.ensure_future(self._look_for_all())
        return await asked.answer

    async def _look_for_all(self) -> None:
        while self._asked:
            await asyncio.sleep(0)
            asked, self._asked = self._asked[:READS_MAX], self._asked[READS_MAX:]
            try:
                await self._look_for(asked)
            except Exception as error:  # noqa: BLE001 - whoever asked gets it
                for one in asked:
                    if not one.answer.done():
                        one.answer.set_exception(error)

    async def _look_for(self, asked: list[_Asked]) -> None:
        keys = self._keys
        closed = [Get(keys.closed(one.workflow_id, one.run_id)) for one in asked]
        opened = [Get(keys.open(one.workflow_id)) for one in asked]
        found = (await self._store.read([*closed, *opened])).ranges
        for answer in found[: len(asked)]:
            for kv in answer.kvs:
                self._see(kv)
        for one, answer in zip(asked, found[len(asked) :], strict=True):
            if one.answer.done():
                continue  # whoever asked has gone
            heads = [head_of(keys, kv) for kv in answer.kvs]
            one.answer.set_result(any(head.run_id == one.run_id for head in heads))

    def tell(self, head: RunHead) -> None:
        """A run is closed."""
        self._tell(head.run_id, head)

    def _tell(self, run_id: str, head: RunHead | None) -> None:
        for future in self._waiting.pop(run_id, []):
            if not future.done():
                future.set_result(head)

    def close(self) -> None:
        """Stop watching; waiters wait in vain."""
        if self._watching is not None:
            self._watching.cancel()

    async def _watched(self) -> None:
        if self._since.is_set() and self._watching is not None and not self._watching.done():
            return
        if self._watching is None or self._watching.done():
            self._since.clear()
            self._watching = asyncio.ensure_future(self._watch())
            self._watching.add_done_callback(self._watch_ended)
        since = asyncio.ensure_future(self._since.wait())
        await asyncio.wait({since, self._watching}, return_when=asyncio.FIRST_COMPLETED)
        since.cancel()
        if self._watching.done():
            self._watching.result()

    def _watch_ended(self, watching: asyncio.Task[None]) -> None:
        """Whoever waits is told, instead of waiting for what nothing follows any more."""
        if watching.cancelled():
            return
        error = watching.exception() or StoreUnavailable("the watch of closed executions ended")
        for run_id in list(self._waiting):
            self._fail(run_id, error)

    async def _watch(self) -> None:
        room = self._keys.range_of("closed")
        self._followed = (await self._store.read([Get(*room, count_only=True)])).revision
        self._since.set()
        while True:
            try:
                async for batch in self._store.watch([room], after=self._followed):
                    self._followed = batch.revision
                    for change in batch.changes:
                        if change.value is not None and self._waiting:
                            self._see(KeyValue(change.key, change.value, 0, change.mod_revision))
            except Compacted:
                await self._look_again()

    def _see(self, kv: KeyValue) -> None:
        with contextlib.suppress(ValueError):  # a key that is no run's is nobody's answer
            run_id = self._keys.closed_parts(kv.key)[1]
            if run_id not in self._waiting:
                return
            try:
                self.tell(closed_head_of(self._keys, kv))
            except LogCorrupt as error:
                self._fail(run_id, error)

    def _fail(self, run_id: str, error: BaseException) -> None:
        for future in self._waiting.pop(run_id, []):
            if not future.done():
                future.set_exception(error)

    async def _look_again(self) -> None:
        """The watch fell too far behind: read all that is closed, and let waiters look again."""
        found: ReadResult = await self._store.read([Get(*self._keys.range_of("closed"))])
        self._followed = found.revision
        for kv in found.ranges[0].kvs:
            self._see(kv)
        for run_id in list(self._waiting):
            self._tell(run_id, None)


def _not_found(workflow_id: str, run_id: str) -> ExecutionNotFound:
    return ExecutionNotFound(
        f"run {run_id} of {workflow_id} is neither open nor closed in the store, nor archived here",
        subject=workflow_id,
        remedy="look at `orbctl workflow list`, or in another copy of the archive",
    )

"""The executions of one shard, while this worker owns the shard.

Messages and signals from the watch are queued until the shard is loaded. Every transaction has the
shard's fence as a guard, so this worker writes nothing once the shard has another owner.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable
from functools import partial

from core.errors import LostRace, SessionLost, UnusableValue
from core.eventstore.group_commit import Lost
from core.eventstore.kv import Get, KeyValue, Unchanged
from core.process.retry import is_retryable
from workflows.engine.run.execution import STEP_PAUSE_S, Execution, ExecutionOwner, ExecutionParts
from workflows.engine.run.resets import ResetRun, StoredHead, reset_run
from workflows.engine.run.undeliverable_messages import UndeliverableMessages, may_start
from workflows.engine.store.history_reader import owned_head_of
from workflows.engine.store.records import (
    InboxMessage,
    RunHead,
    Start,
    decode_message,
    reserved_head,
)
from workflows.engine.store.unusable_values import DECODING_ERRORS, RETRY_UNUSABLE_S
from workflows.engine.worker.retention import ClosedRuns

_log = logging.getLogger(__name__)

CONCURRENT_RESUMES_MAX = 32


class UnusableHeads:
    """Executions of a shard whose stored heads cannot be used.

    Messages to such an execution stay in its inbox, and are read again with the head.
    """

    def __init__(self) -> None:
        self._keys: dict[str, bytes] = {}
        self._skipped_revisions: dict[str, int] = {}
        self._read_revisions: dict[str, int] = {}

    def __contains__(self, workflow_id: str) -> bool:
        return workflow_id in self._keys

    def add(self, workflow_id: str, key: bytes) -> None:
        """Add an execution whose head, at ``key``, cannot be used."""
        self._keys[workflow_id] = key

    def key_of(self, workflow_id: str) -> bytes:
        """The key of the head."""
        return self._keys[workflow_id]

    def note_skipped(self, workflow_id: str, revision: int) -> bool:
        """Note a message to skip. Returns False if the execution's head can be used."""
        if workflow_id not in self._keys:
            return False
        newest = max(revision, self._skipped_revisions.get(workflow_id, 0))
        self._skipped_revisions[workflow_id] = newest
        return True

    def has_skipped_after(self, workflow_id: str, revision: int) -> bool:
        """Whether a message or signal newer than ``revision`` was skipped."""
        return self._skipped_revisions.get(workflow_id, 0) > revision

    def remove(self, workflow_id: str, revision: int) -> None:
        """Remove an execution whose head and inbox were read again at ``revision``."""
        del self._keys[workflow_id]
        self._skipped_revisions.pop(workflow_id, None)
        self._read_revisions[workflow_id] = revision

    @property
    def has_read_again(self) -> bool:
        """Whether any head was read again."""
        return bool(self._read_revisions)

    def message_was_read(self, workflow_id: str, revision: int) -> bool:
        """Whether a message of this revision was read with the head."""
        return revision <= self._read_revisions.get(workflow_id, 0)


class Shard:
    """One shard, from a claim by this worker until ``stop``.

    ``run_closed`` is called after a run has closed, and ``lost`` when the shard has another owner.
    """

    def __init__(
        self,
        parts: ExecutionParts,
        number: int,
        fence: Unchanged,
        *,
        run_closed: Callable[[RunHead], None],
        lost: Callable[[int], None],
    ) -> None:
        self.number = number
        self.fence = fence
        self.executions: dict[str, Execution] = {}
        self.closed_runs = ClosedRuns(parts.store, number)
        self._parts = parts
        self._store = parts.store
        self._owner = ExecutionOwner(
            fence, run_closed=self._note_closed, write_lost=self._note_lost, reset=self._reset
        )
        self._undeliverable = UndeliverableMessages(
            parts.store, parts.interpreter_parts, parts.replies
        )
        self._on_run_closed = run_closed
        self._on_lost = lost
        self._loaded_revision = 0
        self._early_messages: list[tuple[bytes, bytes, int]] = []
        self._early_signals: list[tuple[str, int]] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._waiting_messages: dict[str, list[InboxMessage]] = {}
        self._unusable = UnusableHeads()
        self._stopped = False

    # ------------------------------------------------------------------------------ loading

    async def load(self) -> None:
        """Read the shard and proceed with its executions. Raises StoreUnavailable."""
        keys = self._store.keys
        result = await self._store.kv.read(
            [
                Get(*keys.range_of("open", self.number)),
                Get(*keys.range_of("attempt", self.number)),
                Get(*keys.range_of("wake/inbox", self.number)),
                Get(*keys.range_of("wake/mail", self.number)),
            ]
        )
        heads, attempts, inbox, signal_fences = (answer.kvs for answer in result.ranges)
        for execution in self.executions.values():
            execution.stop()  # from a load that did not finish
        self.executions.clear()
        for kv in heads:
            self._open(kv)
        for kv in signal_fences:
            self._run_or_note_fault(kv.key, partial(self._read_signal_fence, kv))
        await self._resume(attempts)
        for kv in sorted(inbox, key=lambda kv: (kv.mod_revision, kv.key)):
            self._deliver(kv.key, kv.value, kv.mod_revision)
        self._loaded_revision = result.revision
        early, self._early_messages = self._early_messages, []
        for key, value, revision in early:
            self.receive_message(key, value, revision)
        for workflow_id, revision in self._early_signals:
            self._note_signal(workflow_id, revision)

    def _read_signal_fence(self, kv: KeyValue) -> None:
        _, workflow_id = self._store.keys.signal_fence_parts(kv.key)
        self._note_signal(workflow_id, kv.mod_revision)

    def _open(self, kv: KeyValue) -> Execution | None:
        """Add and return the execution of an open head; None if the head cannot be used."""
        try:
            head = owned_head_of(self._store.keys, kv)
        except UnusableValue as error:
            self._note_unusable(kv.key, error)
            return None
        execution = Execution(self._parts, self._owner, head, kv.mod_revision)
        self.executions[head.workflow_id] = execution
        return execution

    def _note_unusable(self, key: bytes, error: UnusableValue) -> None:
        self._store.faults.add(error, shard=self.number)
        start, _ = self._store.keys.range_of("open", self.number)
        workflow_id = key[len(start) :].decode(errors="replace")
        self._unusable.add(workflow_id, key)
        self._parts.deadlines.after(RETRY_UNUSABLE_S, partial(self._retry_unusable, workflow_id))

    def _retry_unusable(self, workflow_id: str) -> None:
        if not self._stopped:
            self._spawn(partial(self._read_again, workflow_id))

    async def _read_again(self, workflow_id: str) -> None:
        keys, key = self._store.keys, self._unusable.key_of(workflow_id)
        gets = [Get(key), Get(keys.signal_fence(workflow_id)), Get(*keys.inbox_of(workflow_id))]
        result = await self._store.kv.read(gets)
        while self._unusable.has_skipped_after(workflow_id, result.revision):
            result = await self._store.kv.read(gets)
        head, signal_fence, inbox = (answer.kvs for answer in result.ranges)
        self._unusable.remove(workflow_id, result.revision)
        execution = self._open(head[0]) if head else None
        if workflow_id in self._unusable:
            return
        self._store.faults.clear(key)
        for kv in inbox:
            if keys.inbox_parts(kv.key)[1] == workflow_id:
                self._deliver(kv.key, kv.value, revision=0)  # 0: the message was read with the head
        if execution is not None:
            execution.note_signal(signal_fence[0].mod_revision if signal_fence else 0)
            execution.resume_in_step()

    async def _resume(self, attempts: tuple[KeyValue, ...]) -> None:
        by_run: dict[bytes, list[KeyValue]] = defaultdict(list)
        for kv in attempts:
            by_run[kv.key.rpartition(b"/")[0]].append(kv)
        limit = asyncio.Semaphore(CONCURRENT_RESUMES_MAX)

        async def resume(execution: Execution) -> None:
            head = execution.head
            run = self._store.keys.attempts(head.workflow_id, head.run_id)[0].rstrip(b"/")
            async with limit:
                await execution.resume(tuple(by_run.get(run, ())))

        executions = list(self.executions.values())
        for execution in executions:
            if not execution.head.activities:
                await execution.resume(())
        await asyncio.gather(
            *(resume(execution) for execution in executions if execution.head.activities)
        )

    # ------------------------------------------------------------------- what the watch delivers

    def receive_message(self, key: bytes, value: bytes, revision: int) -> None:
        """Deliver a message from the watch, or keep it until the shard is loaded."""
        if not self._loaded_revision:
            self._early_messages.append((key, value, revision))
        elif revision > self._loaded_revision:
            self._run_or_note_fault(key, lambda: self._deliver_new(key, value, revision))

    def receive_signal(self, workflow_id: str, revision: int) -> None:
        """Note a changed signal fence. Every signal to an execution rewrites its signal fence."""
        if self._loaded_revision:
            self._note_signal(workflow_id, revision)
        else:
            self._early_signals.append((workflow_id, revision))

    def _note_signal(self, workflow_id: str, revision: int) -> None:
        if self._unusable.note_skipped(workflow_id, revision):
            return
        execution = self.executions.get(workflow_id)
        if execution is not None:
            execution.note_signal(revision)

    # ------------------------------------------------------------------------------- ending

    def stop(self) -> None:
        """Stop all work of the shard."""
        self._stopped = True
        for execution in self.executions.values():
            execution.stop()
        for task in self._tasks:
            task.cancel()

    def tasks_under_way(self) -> set[asyncio.Task[None]]:
        """The tasks of steps and messages that have not ended."""
        steps = (execution.running_step for execution in self.executions.values())
        return {*self._tasks, *(step for step in steps if step is not None)}

    async def settled(self) -> None:
        """Return when no transaction of this shard is in flight."""
        for execution in list(self.executions.values()):
            await execution.settled()

    # ------------------------------------------------------------------ what executions report

    def _note_closed(self, execution: Execution, head: RunHead) -> None:
        self._on_run_closed(head)
        self.closed_runs.add(head)
        if not execution.head.is_open:  # no run continues the closed one
            self.executions.pop(head.workflow_id, None)
            for message in execution.take_messages():
                self._reject(message)

    async def _note_lost(self, execution: Execution, lost: Lost) -> None:
        """Handle a failed guard: the shard has another owner, or a client has written the head."""
        fence = lost.current.get(self.fence.key)
        if fence is None or fence.mod_revision != self.fence.mod_revision:
            self.stop()
            self._on_lost(self.number)
            return
        await self._reload(execution)

    async def _reload(self, execution: Execution) -> None:
        workflow_id = execution.head.workflow_id
        get = Get(self._store.keys.open(workflow_id))
        stored = (await self._store.kv.read([get])).ranges[0].kvs
        execution.stop()
        self.executions.pop(workflow_id, None)
        messages = execution.take_messages()
        new_execution = self._open(stored[0]) if stored else None
        if new_execution is not None:
            new_execution.note_signal(execution.signal_revision)
            new_execution.resume_in_step()
        for message in messages:
            if isinstance(message.body, Start):
                self._start(self.executions.get(workflow_id), message, message.body)
            else:
                self._forward(workflow_id, message)

    async def _reset(self, execution: Execution | None, message: InboxMessage) -> Lost | None:
        """Create the run that a reset requests. Returns Lost if the store has changed: retry."""
        opened = StoredHead(execution.head, execution.revision) if execution is not None else None
        result = await reset_run(self._store, self.fence, opened, message)
        if not isinstance(result, ResetRun):
            return result
        head, revision = result.created
        if execution is not None:
            execution.stop()
        if result.terminated is not None:
            self._on_run_closed(result.terminated)
            self.closed_runs.add(result.terminated)
        new_execution = Execution(self._parts, self._owner, head, revision)
        self.executions[head.workflow_id] = new_execution
        if execution is not None:
            new_execution.note_signal(execution.signal_revision)
            for remaining in execution.take_messages():
                new_execution.deliver(remaining)
        new_execution.start_after_reset()
        return None

    # ----------------------------------------------------------------------------- messages

    def _deliver(self, key: bytes, value: bytes, revision: int) -> None:
        self._run_or_note_fault(key, lambda: self._deliver_decoded(key, value, revision))

    def _run_or_note_fault(self, key: bytes, work: Callable[[], None]) -> None:
        try:
            work()
        except DECODING_ERRORS as error:
            remedy = UnusableValue.REMEDY
            self._store.faults.note("message", key, error, remedy, shard=self.number)

    def _deliver_new(self, key: bytes, value: bytes, revision: int) -> None:
        if self._unusable.has_read_again:
            workflow_id = self._store.keys.inbox_parts(key)[1]
            if self._unusable.message_was_read(workflow_id, revision):
                return
        self._deliver_decoded(key, value, revision)

    def _deliver_decoded(self, key: bytes, value: bytes, revision: int) -> None:
        _, workflow_id, message_id = self._store.keys.inbox_parts(key)
        if self._stopped or self._unusable.note_skipped(workflow_id, revision):
            return
        body = decode_message(value)
        message = InboxMessage(key, message_id, revision, body, len(value))
        execution = self.executions.get(workflow_id)
        if isinstance(body, Start):
            if body.started.workflow_id != workflow_id:
                other = body.started.workflow_id
                raise ValueError(f"expected a start of {workflow_id!r}, got a start of {other!r}")
            self._start(execution, message, body)
        elif execution is not None:
            execution.deliver(message)
        elif workflow_id in self._waiting_messages:
            self._waiting_messages[workflow_id].append(message)
        else:
            self._reject(message)

    def _start(self, execution: Execution | None, message: InboxMessage, start: Start) -> None:
        if execution is not None and start.started.run_id == execution.head.run_id:
            execution.deliver(message)
        elif start.reserved:
            # The client wrote this message and the head together, so an older run is closed.
            head = reserved_head(start.started, start.at_ms)
            self._begin(head, message.revision, message, execution)
        elif execution is not None:
            self._reject(message)
        else:
            workflow_id = start.started.workflow_id
            self._waiting_messages.setdefault(workflow_id, [])
            starting = self._spawn(partial(self._start_child, message, start))
            # Deliver even if the start fails: no message may wait for a child that never starts.
            starting.add_done_callback(lambda _: self._deliver_waiting(workflow_id))

    def _begin(
        self, head: RunHead, revision: int, message: InboxMessage, older: Execution | None = None
    ) -> None:
        execution = Execution(self._parts, self._owner, head, revision)
        if older is not None:
            older.stop()
            for remaining in older.take_messages():
                self._reject(remaining)
        self.executions[head.workflow_id] = execution
        execution.timers.arm(head)
        execution.deliver(message)

    async def _start_child(self, message: InboxMessage, start: Start) -> None:
        workflow_id = start.started.workflow_id
        allowed = await may_start(self._store, start)
        if allowed and workflow_id not in self.executions:
            head = reserved_head(start.started, self._store.clock.now_ms())
            self._begin(head, revision=0, message=message)  # 0: the head is not stored yet
        else:
            await self._undeliverable.reject(self.fence, message)
        self._deliver_waiting(workflow_id)

    def _deliver_waiting(self, workflow_id: str) -> None:
        for message in () if self._stopped else self._waiting_messages.pop(workflow_id, ()):
            self._forward(workflow_id, message)

    def _forward(self, workflow_id: str, message: InboxMessage) -> None:
        execution = self.executions.get(workflow_id)
        if execution is not None:
            execution.deliver(message)
        else:
            self._reject(message)

    def _reject(self, message: InboxMessage) -> None:
        self._spawn(partial(self._reject_undeliverable, message))

    async def _reject_undeliverable(self, message: InboxMessage) -> None:
        if await self._undeliverable.reject(self.fence, message):
            return
        _, workflow_id, _ = self._store.keys.inbox_parts(message.key)
        if workflow_id in self.executions:
            self.executions[workflow_id].deliver(message)
        elif await self._reset_closed(workflow_id, message) is not None:
            raise LostRace(f"a run of {workflow_id} has started before an older run was reset")

    async def _reset_closed(self, workflow_id: str, message: InboxMessage) -> Lost | None:
        # The new run must receive the reports of children that end during the reset.
        self._waiting_messages.setdefault(workflow_id, [])
        try:
            return await self._reset(execution=None, message=message)
        finally:
            self._deliver_waiting(workflow_id)

    def _spawn(self, work: Callable[[], Awaitable[None]]) -> asyncio.Task[None]:
        task = asyncio.ensure_future(self._retried(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _retried(self, work: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await work()
            except SessionLost:
                return
            except Exception as error:  # noqa: BLE001 - logged; the shard proceeds
                if not is_retryable(error):
                    _log.exception(
                        "shard %d cannot process a stored message or head; it stays in etcd and is"
                        " read again by the next owner of the shard",
                        self.number,
                    )
                    return
                await self._store.clock.wait(asyncio.Event(), STEP_PAUSE_S)
            else:
                return

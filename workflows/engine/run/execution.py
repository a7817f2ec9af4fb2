"""One open execution in the worker that owns it: records inputs, runs the code, and commits.

A step is one transaction: events of the inputs, the workflow task, its commands, and the new head
(the stored state of the run). Steps of one execution never overlap. After a failed guard, the
inputs wait for the next step.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import NamedTuple

from core.errors import OrbweaverError, SessionLost, StoreRejected, UnusableValue
from core.eventstore.group_commit import Committed, Lost
from core.eventstore.group_commit import Outcome as CommitOutcome
from core.eventstore.kv import Delete, Get, Guard, KeyValue, Unchanged, Write
from core.process.retry import pause_s
from workflows.engine.clock import Deadlines, instant
from workflows.engine.run.pending_work import PendingActivities, RunTimers
from workflows.engine.run.received_events import ActivityOutcome, pause_for_failed_task
from workflows.engine.run.run_inbox import (
    InboxBatch,
    ReplyWriter,
    RunInbox,
    Updates,
    record_batch,
    rejection,
)
from workflows.engine.run.run_interpreter import TYPE_REMEDY, InterpreterParts, RunInterpreter
from workflows.engine.store.draft import ExecutionStore, HistoryDraft, PendingReply
from workflows.engine.store.history_reader import attempts_of
from workflows.engine.store.records import (
    InboxMessage,
    Query,
    Reply,
    RequestCancel,
    Reset,
    Retry,
    RunHead,
    Terminate,
)
from workflows.engine.store.unusable_values import RunObstacle
from workflows.engine.worker.activities import ActivityHost
from workflows.model.commands import UpdateRejection
from workflows.model.errors import LimitExceeded, PatchMissingError, WorkflowError
from workflows.model.failures import failure_of
from workflows.model.limits import PAYLOAD_WARN_BYTES
from workflows.model.policies import ExecutionStatus

_log = logging.getLogger(__name__)

STEP_PAUSE_S = 0.5
"""The pause after a failed step; doubled with every further failure."""

STEP_PAUSE_S_MAX = 30.0

STEP_FAILURES_MAX = 5
"""Failures in a row after which an error that is not retryable pauses the execution."""

FAILING_REMEDY = (
    "fix the cause; the steps are tried again every minute; if the execution is paused, run"
    " `orbctl workflow retry`; `orbctl workflow terminate` ends it"
)


class ExecutionParts(NamedTuple):
    """The objects that all executions of one worker session share."""

    store: ExecutionStore
    interpreter_parts: InterpreterParts
    activities: ActivityHost
    deadlines: Deadlines
    replies: ReplyWriter


class ExecutionOwner(NamedTuple):
    """The shard that owns an execution. ``fence``: the guard of every write.

    The execution calls ``run_closed`` after the run has closed, ``write_lost`` after a guard has
    failed, and ``reset`` to execute a reset. ``reset`` returns Lost if a guard failed.
    """

    fence: Unchanged
    run_closed: Callable[[Execution, RunHead], None]
    write_lost: Callable[[Execution, Lost], Awaitable[None]]
    reset: Callable[[Execution, InboxMessage], Awaitable[Lost | None]]


class Execution:
    """The open run of one id. ``revision``: that of the head's key, 0 before the key exists."""

    def __init__(
        self, parts: ExecutionParts, owner: ExecutionOwner, head: RunHead, revision: int
    ) -> None:
        self.head = head
        self.revision = revision
        self.signal_revision = 0
        self._store = store = parts.store
        self._owner = owner
        self._deadlines = parts.deadlines
        self._replies = parts.replies
        self._telemetry = parts.interpreter_parts.telemetry
        self.activities = PendingActivities(store, owner.fence, parts.activities, self.report)
        self.timers = RunTimers(store.clock, parts.deadlines, self.timer_due)
        self._code = RunInterpreter(store, parts.interpreter_parts)
        self._updates = Updates()
        self._inbox = RunInbox()
        self._obstacle: RunObstacle | None = None
        self._code_stopped = False
        """If true, steps only record inputs. Another worker must run code and activities."""
        self._steps_stopped = False
        """If true, no step is made, because steps fail."""
        self._activities_to_restart: list[int] = []
        self._awaited_signal = 0  # no step before the signal with this revision arrives; 0: none
        self.running_step: asyncio.Task[None] | None = None
        self._stopped = False
        self._failures = 0
        self._must_resume = False  # whether the next step restarts the pending activities
        self._drafted_at = instant(store.clock)

    # ------------------------------------------------------------------------------- inputs

    def deliver(self, message: InboxMessage) -> None:
        """Queue a message for the next step."""
        self._inbox.messages.append(message)
        if isinstance(message.body, Retry | Reset | Terminate | RequestCancel):
            self._steps_stopped = False  # a user acts: try again
        self.wake()

    def note_signal(self, revision: int) -> None:
        """Note the revision at which a client wrote a signal and the signal fence."""
        self.signal_revision = max(self.signal_revision, revision)
        if self._awaited_signal <= self.signal_revision:
            self._awaited_signal = 0
            self.wake()

    def report(self, outcome: ActivityOutcome) -> None:
        """Queue the outcome of an activity for the next step."""
        self._inbox.outcomes.append(outcome)
        self.wake()

    def timer_due(self, run_id: str, number: int) -> None:
        """Queue a due timer or timeout. ``number``: as in ``pending_work.OnDue``."""
        if run_id == self.head.run_id:
            self._inbox.fired.append(number)
            self.wake()

    def wake(self) -> None:
        """Start a step if there is work and no step is running."""
        if self.running_step is None and not self._stopped and self._has_work:
            self.running_step = asyncio.get_running_loop().create_task(self._work())

    def stop(self) -> None:
        """Stop all work: the execution has another owner, or is replaced."""
        self._stopped = True
        self.activities.stop()
        self.timers.stop()
        self._clear_obstacle()
        step = self.running_step
        if step is not None and step is not asyncio.current_task():
            step.cancel()  # a step that stops its own execution runs to its end
        self._code.drop()

    async def settled(self) -> None:
        """Return when no step is running."""
        if self.running_step is not None:
            await asyncio.wait({self.running_step})

    def take_messages(self) -> list[InboxMessage]:
        """Remove and return the unrecorded messages, for the next run."""
        return self._inbox.take_messages()

    # ----------------------------------------------------------------------------- starting

    def start_after_reset(self) -> None:
        """Arm the timers; the next step starts the pending activities."""
        self.timers.arm(self.head)
        self._activities_to_restart = list(self.head.activities)
        self.wake()

    async def resume(self, attempts: tuple[KeyValue, ...]) -> None:
        """Proceed where the previous owner stopped. ``attempts``: the stored attempts."""
        self.timers.arm(self.head)
        if self.head.activities:
            self._must_resume = True
            try:
                await self._resume_activities(attempts)
            except SessionLost:
                raise
            except Exception as error:  # noqa: BLE001 - the other executions of the shard proceed
                if not (isinstance(error, OrbweaverError) and error.retryable):
                    await self._block(error)
        self.wake()  # a step retries the activities that were not resumed

    def resume_in_step(self) -> None:
        """Arm the timers; the next step resumes the pending activities."""
        self.timers.arm(self.head)
        self._must_resume = bool(self.head.activities)
        self.wake()

    async def _resume_activities(self, attempts: tuple[KeyValue, ...]) -> None:
        head = self.head
        try:
            self._code.check_type(head)
            known = attempts_of(self._store.keys, attempts, head.activities)
            numbers = self._without_outcome(head.activities)
            await self.activities.restart(head, numbers, known, interrupted=True)
        except UnusableValue as error:
            self._leave_code_to_others(error)
        else:
            self._must_resume = False

    def _without_outcome(self, activity_ids: Iterable[int]) -> list[int]:
        """The activities that are pending and whose outcome is not in the inbox."""
        pending = set(self.head.activities) - {out.activity_id for out in self._inbox.outcomes}
        return [number for number in activity_ids if number in pending]

    # ---------------------------------------------------------------------------- obstacles

    def _leave_code_to_others(self, error: UnusableValue) -> None:
        self._code_stopped = True
        self._code.drop()
        self._list_obstacle(error)

    def _list_obstacle(self, value: UnusableValue) -> None:
        self._clear_obstacle()
        self._obstacle = RunObstacle(
            self._store.faults, self._deadlines, value, self.head.workflow_id, self._try_again
        )

    def _clear_obstacle(self) -> None:
        if self._obstacle is not None:
            self._obstacle.clear()
            self._obstacle = None

    def _try_again(self) -> None:
        """Allow steps again. If a step starts, the obstacle stays listed until a step succeeds."""
        self._code_stopped = self._steps_stopped = False
        self.wake()
        if self.running_step is None:
            self._clear_obstacle()

    async def _block(self, error: Exception) -> None:
        """Make no more steps, and pause the run if possible. Raises SessionLost."""
        workflow_id = self.head.workflow_id
        _log.error("steps of workflow %s fail", workflow_id, exc_info=error)
        self._steps_stopped = True
        why = f"its steps fail: {type(error).__name__}: {error}"
        key = self._store.keys.open(workflow_id)
        self._list_obstacle(UnusableValue("open execution", key, why, FAILING_REMEDY))
        try:
            await self._pause(error)
        except SessionLost:
            raise
        except Exception:  # noqa: BLE001 - logged; the steps stay stopped without a pause
            _log.exception("cannot pause workflow %s", workflow_id)

    async def _pause(self, error: Exception) -> None:
        if self.head.status is not ExecutionStatus.RUNNING or self.head.next_event_id == 1:
            return
        draft = self._store.draft(self.head)
        pause_for_failed_task(draft, failure_of(error))
        outcome = await self._store.committer.propose(*self._transaction(draft, signal_revision=0))
        if isinstance(outcome, Lost):
            await self._note_lost(outcome)
        else:
            self._apply(draft, outcome.revision)

    # -------------------------------------------------------------------------------- steps

    @property
    def _has_work(self) -> bool:
        if self._awaited_signal or self._steps_stopped:
            return False
        if self._inbox:
            return True
        head = self.head
        # ``due``: the code has events to process. ``next_event_id`` 1: the start is not recorded.
        due = head.due and head.status is ExecutionStatus.RUNNING and head.next_event_id > 1
        return not self._code_stopped and bool(
            self._activities_to_restart or self._must_resume or due
        )

    async def _work(self) -> None:
        try:
            while self._has_work and not self._stopped:
                try:
                    await self._step()
                    self._failures = 0
                except SessionLost:
                    self._stopped = True  # the worker stops all its shards
                except Exception as error:  # noqa: BLE001 - retried, then the execution is paused
                    await self._after_failure(error)
        except SessionLost:
            self._stopped = True
        finally:
            self.running_step = None
            if not (self._steps_stopped or self._code_stopped):
                self._clear_obstacle()

    async def _after_failure(self, error: Exception) -> None:
        self._failures += 1
        if not (isinstance(error, OrbweaverError) and error.retryable):
            _log.error("a step of workflow %s failed", self.head.workflow_id, exc_info=error)
            if self._failures >= STEP_FAILURES_MAX:
                self._failures = 0
                await self._block(error)
                return
        wait_s = pause_s(self._failures, STEP_PAUSE_S, STEP_PAUSE_S_MAX)
        await self._store.clock.wait(asyncio.Event(), wait_s)

    async def _step(self) -> None:
        reset = self._inbox.take_reset()
        if reset is not None:
            await self._reset(reset)
            return
        if self._must_resume and not self._code_stopped:
            store, head = self._store, self.head
            attempts = Get(*store.keys.attempts(head.workflow_id, head.run_id))
            result = await store.kv.read([attempts])
            await self._resume_activities(result.ranges[0].kvs)
            return
        if self._activities_to_restart and not self._code_stopped:
            numbers = self._without_outcome(self._activities_to_restart)
            await self.activities.restart(self.head, numbers, {}, interrupted=False)
            self._activities_to_restart = []
            return
        batch = self._inbox.take(self.signal_revision)
        try:
            draft = await self._draft(batch)
            outcome = None if draft.is_empty else await self._commit(draft, batch.signal_revision)
        except BaseException:
            self._inbox.put_back(batch)
            raise
        if isinstance(outcome, Lost):
            self._inbox.put_back(batch)
            await self._note_lost(outcome)
            return
        if isinstance(outcome, Committed):
            self._apply(draft, outcome.revision)
        if batch.messages:
            await self._reply_to_queries(batch.messages)

    async def _reset(self, message: InboxMessage) -> None:
        lost: Lost | None = None
        try:
            lost = await self._owner.reset(self, message)
        except BaseException:
            self._inbox.put_back_reset(message)
            raise
        if lost is not None:
            self._inbox.put_back_reset(message)
            self._code.drop()
            await self._owner.write_lost(self, lost)

    async def _draft(self, batch: InboxBatch) -> HistoryDraft:
        self._drafted_at = instant(self._store.clock)
        draft = record_batch(self._store, self.head, batch, self._drafted_at.wall_ms)
        updates = self._updates.requests(batch.messages, draft)
        head = draft.head
        if (
            head.status is not ExecutionStatus.RUNNING
            or not batch.is_whole  # more messages: record them before the code runs
            or not (head.due or updates)
        ):
            return draft
        rejections: Sequence[UpdateRejection]
        try:
            await self._load_code()
            rejections = self._code.execute_task(draft, updates)
        except UnusableValue as error:
            rejections = [
                UpdateRejection(update.update_id, failure_of(error)) for update in updates
            ]
        except WorkflowError as error:
            self._code.drop()
            self._telemetry.count_task_failure(head.workflow_type, type(error).__name__)
            failure = failure_of(error)._replace(type=type(error).__name__)
            replies = draft.replies  # only the commands of the failed task are dropped
            draft = record_batch(self._store, self.head, batch, self._drafted_at.wall_ms)
            draft.replies = replies
            if isinstance(error, PatchMissingError):
                key = self._store.keys.open(head.workflow_id)
                self._leave_code_to_others(UnusableValue("open execution", key, error, TYPE_REMEDY))
            else:
                pause_for_failed_task(draft, failure)
            rejections = [UpdateRejection(update.update_id, failure) for update in updates]
        self._updates.add_replies(draft, rejections)
        return draft

    async def _load_code(self) -> None:
        """Load the code. Raises UnusableValue if another worker must run it; StoreUnavailable."""
        if self._code_stopped and self._obstacle is not None:
            raise self._obstacle.value
        try:
            await self._code.load(self.head)
        except UnusableValue as error:
            self._leave_code_to_others(error)
            raise

    # -------------------------------------------------------------------------- transaction

    async def _commit(self, draft: HistoryDraft, signal_revision: int) -> CommitOutcome:
        try:
            return await self._store.committer.propose(*self._transaction(draft, signal_revision))
        except StoreRejected as error:
            # The limits of a draft are below the limits of etcd, so a rejection is a bug.
            self._code.drop()
            await self._pause(LimitExceeded(error.message))
            raise
        except BaseException:
            self._code.drop()
            raise

    def _transaction(
        self, draft: HistoryDraft, signal_revision: int
    ) -> tuple[list[Guard], list[Write]]:
        guards = draft.guards(self._owner.fence, self.revision)
        writes = draft.writes()
        if not draft.head.is_open and draft.successor is None:
            key = self._store.keys.signal_fence(draft.head.workflow_id)
            guards.append(Unchanged(key, signal_revision))
            if signal_revision:
                writes.append(Delete(key))
        return guards, writes

    async def _note_lost(self, lost: Lost) -> None:
        """Find the guard that failed: wait for an unrecorded signal, or notify the shard."""
        self._code.drop()
        stored, keys, fence = lost.current, self._store.keys, self._owner.fence
        stored_head, stored_fence = stored[keys.open(self.head.workflow_id)], stored[fence.key]
        is_owned = stored_fence is not None and stored_fence.mod_revision == fence.mod_revision
        head_revision = stored_head.mod_revision if stored_head is not None else 0
        if not is_owned or head_revision != self.revision:
            await self._owner.write_lost(self, lost)
            return
        signalled = stored.get(keys.signal_fence(self.head.workflow_id))
        if signalled is None:
            self.signal_revision = 0  # a user has deleted the key
        elif signalled.mod_revision > self.signal_revision:
            self._awaited_signal = signalled.mod_revision

    def _apply(self, draft: HistoryDraft, revision: int) -> None:
        """Apply the effects of a committed draft."""
        before, self.head, self.revision = self.head, draft.head, revision
        telemetry, head = self._telemetry, draft.head
        for reply in draft.replies:
            self._replies.write(reply)
        for event, size in draft.large_events:
            _log.warning(
                "event %d of workflow %s, %s, has %d bytes, PAYLOAD_WARN_BYTES is %d: store large "
                "values elsewhere and pass a reference",
                event.event_id,
                head.workflow_id,
                event.event_type,
                size,
                PAYLOAD_WARN_BYTES,
            )
        if before.status is not ExecutionStatus.PAUSED and head.status is ExecutionStatus.PAUSED:
            telemetry.record_end(head.workflow_type, head.status.value, duration_s=0.0)
        self.activities.apply(draft)
        if head.is_open:
            self._code.note_committed(draft.events)
            self.timers.arm(self.head, self._drafted_at)
            self._activities_to_restart += draft.activities_to_restart
            return
        duration_s = (head.closed_ms - head.started_ms) / 1000
        telemetry.record_end(head.workflow_type, head.status.value, duration_s)
        telemetry.record_completion(head)
        self._code.drop()
        self._updates.clear()
        self.timers.stop()
        if draft.successor is not None:
            self.head = draft.successor
            self.timers.arm(self.head, self._drafted_at)
        else:
            self._stopped = True
        self._owner.run_closed(self, head)

    async def _reply_to_queries(self, messages: Sequence[InboxMessage]) -> None:
        for message in messages:
            query = message.body
            if not isinstance(query, Query):
                continue
            is_task_due = self.head.due and self.head.status is ExecutionStatus.RUNNING
            if is_task_due and not self._code_stopped:
                self._inbox.messages.append(message)  # answered after the due workflow task
                continue
            try:
                await self._load_code()
                if self._telemetry.traces:
                    name = f"HandleQuery:{query.name}"
                    self._telemetry.record_run_span(name, self.head, query.traceparent)
                reply = Reply(self._code.query(query.name, query.args))
            except (WorkflowError, UnusableValue) as error:
                reply = rejection(str(error), type(error).__name__)
            self._replies.write(PendingReply(message.message_id, query.lease, reply))

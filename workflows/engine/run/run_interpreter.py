"""The interpreter of one run executes workflow tasks and records their commands in a draft.

After an error or an uncommitted transaction, the interpreter is dropped, because its state may
differ from the store. The next workflow task then replays the history. Nothing here writes to the
store.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from time import perf_counter
from typing import Any, Final, NamedTuple

from core.errors import UnusableValue
from workflows.api.definitions import Registry
from workflows.engine.store.draft import (
    BYTES_MAX,
    WRITES_MAX,
    ExecutionStore,
    HistoryDraft,
    RunClosure,
)
from workflows.engine.store.keys import new_id, next_run_id
from workflows.engine.store.records import (
    ChildRecord,
    RequestCancel,
    RunHead,
    Sender,
    Signal,
    Start,
    Timer,
    continued_run,
)
from workflows.engine.telemetry import Telemetry
from workflows.interpreter import Interpreter
from workflows.model import events as ev
from workflows.model import limits
from workflows.model.commands import Command, UpdateRejection, UpdateRequest
from workflows.model.errors import LimitExceeded, WorkflowTaskError
from workflows.model.events import (
    HistoryEvent,
    WorkflowExecutionSignaled,
    WorkflowTaskCompleted,
    WorkflowTaskStarted,
)
from workflows.model.limits import STICKY_CACHE_RUNS_MAX
from workflows.model.payloads import Payload
from workflows.model.policies import ExecutionStatus

Evict = Callable[[], None]


class InterpreterCache:
    """Evicts the least recently used interpreter when more than ``size`` are cached.

    With ``size`` 0, every workflow task replays the history.
    """

    def __init__(self, size: int = STICKY_CACHE_RUNS_MAX) -> None:
        self._size = size
        self._cached: OrderedDict[Hashable, Evict] = OrderedDict()

    def __len__(self) -> int:
        return len(self._cached)

    @property
    def keeps_nothing(self) -> bool:
        """Whether ``size`` is 0."""
        return not self._size

    def note_use(self, owner: Hashable, evict: Evict) -> None:
        """Note that ``owner`` uses its interpreter; may evict another owner's interpreter."""
        self._cached[owner] = evict
        self._cached.move_to_end(owner)
        if len(self._cached) > max(self._size, 1):
            _, evict_oldest = self._cached.popitem(last=False)
            evict_oldest()

    def remove(self, owner: Hashable) -> None:
        """Note that ``owner`` has dropped its interpreter."""
        self._cached.pop(owner, None)


TYPE_REMEDY = (
    "run a worker that has this code, or end the execution with `orbctl workflow terminate`"
)


class InterpreterParts(NamedTuple):
    """The objects that all interpreters of a worker share."""

    registry: Registry
    cache: InterpreterCache
    telemetry: Telemetry


class RunInterpreter:
    """The interpreter of one run, with the events that it has not processed."""

    def __init__(self, store: ExecutionStore, interpreter_parts: InterpreterParts) -> None:
        self._store = store
        self._registry, self._cache, self._telemetry = interpreter_parts
        self._interpreter: Interpreter | None = None
        self._unprocessed: list[HistoryEvent] = []

    def drop(self) -> None:
        """Drop the interpreter; the next workflow task replays the history."""
        interpreter, self._interpreter = self._interpreter, None
        self._unprocessed.clear()
        self._cache.remove(self)
        if interpreter is not None:
            interpreter.close()

    def note_committed(self, events: Sequence[HistoryEvent]) -> None:
        """Keep, for the next task, committed events that the interpreter has not processed."""
        if self._cache.keeps_nothing:
            self.drop()
        if self._interpreter is not None:
            processed = self._interpreter.last_event_id
            self._unprocessed.extend(event for event in events if event.event_id > processed)

    def check_type(self, head: RunHead) -> None:
        """Raise UnusableValue if this worker has not registered the workflow type."""
        known = self._registry.workflows
        if head.workflow_type not in known:
            why = (
                f"workflow type {head.workflow_type!r} is not registered with this worker, which "
                f"has {', '.join(sorted(known)) or 'none'}"
            )
            key = self._store.keys.open(head.workflow_id)
            raise UnusableValue("open execution", key, why, TYPE_REMEDY)

    async def load(self, head: RunHead) -> None:
        """Read the history if no interpreter is cached. Raises StoreUnavailable, UnusableValue."""
        self.check_type(head)
        if self._interpreter is not None:
            self._telemetry.count_cache_hit()
        else:
            events: list[HistoryEvent] = []
            if head.next_event_id > 1:
                self._telemetry.count_cache_miss()
                events = await self._store.history(head)
            self._interpreter, self._unprocessed = Interpreter(self._registry), events
        self._cache.note_use(self, self.drop)

    def execute_task(
        self, draft: HistoryDraft, updates: Sequence[UpdateRequest]
    ) -> Sequence[UpdateRejection]:
        """Execute a workflow task with the draft's events, and add the commands to the draft.

        Call ``load`` first. Raises WorkflowTaskError, LimitExceeded.
        """
        assert self._interpreter is not None, "load comes first"
        started_at = perf_counter()
        head, telemetry = draft.head, self._telemetry
        if head.next_event_id > limits.HISTORY_EVENTS_MAX:
            raise LimitExceeded(
                f"the history has {head.next_event_id - 1} events, HISTORY_EVENTS_MAX is "
                f"{limits.HISTORY_EVENTS_MAX}: the run should have continued as new"
            )
        suggest_continue_as_new = (
            head.next_event_id > limits.HISTORY_EVENTS_SUGGEST
            or head.history_bytes > limits.HISTORY_BYTES_SUGGEST
        )
        if telemetry.traces:
            if not self._interpreter.last_event_id and not _has_task(self._unprocessed):
                telemetry.record_run_span(f"RunWorkflow:{head.workflow_type}", head)
            _record_message_spans(telemetry, draft, updates)
        draft.add(WorkflowTaskStarted(draft.identity, head.history_bytes, suggest_continue_as_new))
        events = [*self._unprocessed, *draft.events]
        self._unprocessed.clear()
        decision = self._interpreter.activate(events, updates=updates)
        draft.add(WorkflowTaskCompleted(draft.identity))
        apply_commands(draft, decision.commands)
        draft.change(due=False)  # the code has processed all events
        _check_limits(draft)
        if telemetry.measures:
            telemetry.record_task(head.workflow_type, perf_counter() - started_at)
        return decision.rejections

    def query(self, name: str, args: Sequence[Payload]) -> Payload:
        """The result as of the last committed event. Raises QueryError, WorkflowTaskError."""
        assert self._interpreter is not None, "load comes first"
        try:
            if self._unprocessed:
                self._interpreter.activate(self._unprocessed)
                self._unprocessed.clear()
            return self._interpreter.query(name, args)
        except WorkflowTaskError:
            self.drop()
            raise


def _has_task(events: Sequence[HistoryEvent]) -> bool:
    return any(isinstance(event.attributes, WorkflowTaskStarted) for event in events)


def _record_message_spans(
    telemetry: Telemetry, draft: HistoryDraft, updates: Sequence[UpdateRequest]
) -> None:
    for event in draft.events:
        signal = event.attributes
        if isinstance(signal, WorkflowExecutionSignaled):
            name = f"HandleSignal:{signal.signal_name}"
            telemetry.record_run_span(name, draft.head, signal.traceparent)
    for update in updates:
        name = f"HandleUpdate:{update.update_name}"
        telemetry.record_run_span(name, draft.head, update.traceparent)


def _check_limits(draft: HistoryDraft) -> None:
    writes, size = draft.size
    head = draft.head
    if head.next_event_id - 1 > limits.HISTORY_EVENTS_MAX and head.is_open:
        raise LimitExceeded(
            f"the task would make a history of {head.next_event_id - 1} events, "
            f"HISTORY_EVENTS_MAX is {limits.HISTORY_EVENTS_MAX}: continue as new earlier"
        )
    if writes > WRITES_MAX:
        raise LimitExceeded(
            f"one workflow task makes {writes} writes, WRITES_MAX is {WRITES_MAX}: await some"
            " requests before making more"
        )
    if size > BYTES_MAX:
        raise LimitExceeded(
            f"one task writes {size} bytes, BYTES_MAX is {BYTES_MAX}: store large payloads "
            "elsewhere and pass references to them, or await some activities before scheduling more"
        )
    if head.history_bytes > limits.HISTORY_BYTES_MAX and head.is_open:
        raise LimitExceeded(
            f"the history has {head.history_bytes} bytes, HISTORY_BYTES_MAX is "
            f"{limits.HISTORY_BYTES_MAX}: continue as new earlier"
        )


_AWAIT_REMEDY: Final = "await one of them before starting another"


def apply_commands(draft: HistoryDraft, commands: tuple[Command, ...]) -> None:
    """Record the commands and apply their effects, in order. Raises LimitExceeded."""
    if len(commands) > limits.COMMANDS_MAX:
        raise LimitExceeded(
            f"one workflow task has {len(commands)} commands, COMMANDS_MAX is "
            f"{limits.COMMANDS_MAX}: await some requests before making more"
        )
    for command in commands:
        if isinstance(command, ev.WorkflowExecutionContinuedAsNew):
            _continue_as_new(draft, command)
            continue
        draft.add(command)
        apply_effect = _EFFECTS.get(type(command))
        if apply_effect is not None:
            apply_effect(draft, command)


def _schedule(draft: HistoryDraft, command: ev.ActivityTaskScheduled) -> None:
    pending = (*draft.pending_activities, command.activity_id)
    _check_limit(
        len(pending),
        limits.PENDING_ACTIVITIES_MAX,
        "pending activities (PENDING_ACTIVITIES_MAX)",
        _AWAIT_REMEDY,
    )
    draft.change(activities=pending)
    draft.activities_to_start.append(command)


def _cancel_activity(draft: HistoryDraft, command: ev.ActivityTaskCancelRequested) -> None:
    if command.activity_id in draft.head.activities:
        draft.activities_to_cancel.append(command.activity_id)


def _start_timer(draft: HistoryDraft, command: ev.TimerStarted) -> None:
    fire_ms = draft.now_ms + round(command.start_to_fire_s * 1000)
    pending = (*draft.head.timers, Timer(command.timer_id, fire_ms))
    _check_limit(
        len(pending),
        limits.PENDING_TIMERS_MAX,
        "pending timers (PENDING_TIMERS_MAX)",
        _AWAIT_REMEDY,
    )
    draft.change(timers=pending)


def _cancel_timer(draft: HistoryDraft, command: ev.TimerCanceled) -> None:
    timers = tuple(timer for timer in draft.head.timers if timer.timer_id != command.timer_id)
    draft.change(timers=timers)


def _start_child(draft: HistoryDraft, command: ev.StartChildWorkflowExecutionInitiated) -> None:
    head = draft.head
    pending = (
        *head.children,
        ChildRecord(command.child_id, command.workflow_id, command.parent_close_policy),
    )
    _check_limit(
        len(pending),
        limits.PENDING_CHILDREN_MAX,
        "pending child workflows (PENDING_CHILDREN_MAX)",
        _AWAIT_REMEDY,
    )
    draft.change(children=pending)
    started = ev.WorkflowExecutionStarted(
        command.workflow_type,
        command.workflow_id,
        new_id(draft.now_ms),
        draft.keys.queue,
        command.args,
        command.run_timeout_s,
        command.execution_timeout_s,
        command.search_attributes,
        parent=ev.ParentRef(head.workflow_type, head.workflow_id, head.run_id, command.child_id),
        identity=draft.identity,
    )
    # ``reserved`` False: unlike a client, a parent does not write the head of the new run.
    draft.send(
        command.workflow_id,
        Start(started, reserved=False, at_ms=draft.now_ms, reuse=command.id_reuse_policy),
    )


def _signal_external(
    draft: HistoryDraft, command: ev.SignalExternalWorkflowExecutionInitiated
) -> None:
    head = draft.head
    sender = Sender(head.workflow_id, head.run_id, command.request_id)
    signal = Signal(
        command.signal_name,
        command.args,
        identity=f"workflow {head.workflow_id}",
        request_id=f"{head.run_id}/{command.request_id}",
        sender=sender,
        run_id=command.run_id,
    )
    draft.send(command.workflow_id, signal)


def _cancel_external(
    draft: HistoryDraft,
    command: ev.RequestCancelExternalWorkflowExecutionInitiated,
) -> None:
    head = draft.head
    sender = Sender(head.workflow_id, head.run_id, command.request_id)
    reason = f"requested by workflow {head.workflow_id}"
    request = RequestCancel(reason, head.workflow_id, sender, command.run_id)
    draft.send(command.workflow_id, request)


def _upsert(draft: HistoryDraft, command: ev.UpsertWorkflowSearchAttributes) -> None:
    merged = {**draft.head.search_attributes, **command.search_attributes}
    attributes = {name: value for name, value in merged.items() if value is not None}
    _check_limit(
        len(attributes),
        limits.SEARCH_ATTRIBUTES_MAX,
        "search attributes (SEARCH_ATTRIBUTES_MAX)",
        "remove some",
    )
    draft.change(search_attributes=attributes)


def _accept(draft: HistoryDraft, command: ev.WorkflowExecutionUpdateAccepted) -> None:
    accepted = (*draft.head.updates, command.update_id)
    _check_limit(
        len(accepted), limits.UPDATES_MAX, "accepted updates (UPDATES_MAX)", "continue as new"
    )
    draft.change(updates=accepted)


def _complete(draft: HistoryDraft, command: ev.WorkflowExecutionCompleted) -> None:
    draft.close(RunClosure(ExecutionStatus.COMPLETED, result=command.result))


def _fail(draft: HistoryDraft, command: ev.WorkflowExecutionFailed) -> None:
    failure = command.failure
    draft.close(RunClosure(ExecutionStatus.FAILED, failure=failure, reason=failure.message))


def _cancel(draft: HistoryDraft, command: ev.WorkflowExecutionCanceled) -> None:
    draft.close(RunClosure(ExecutionStatus.CANCELED, reason=command.message))


def _continue_as_new(draft: HistoryDraft, command: ev.WorkflowExecutionContinuedAsNew) -> None:
    head = draft.head
    run_id = next_run_id(head.run_id, draft.now_ms)
    draft.add(command._replace(new_run_id=run_id))
    attributes = {**head.search_attributes, **command.search_attributes}
    timeout_s = (head.run_deadline_ms - head.started_ms) / 1000 if head.run_deadline_ms else 0.0
    started = ev.WorkflowExecutionStarted(
        command.workflow_type or head.workflow_type,
        head.workflow_id,
        run_id,
        draft.keys.queue,
        command.args,
        run_timeout_s=timeout_s,
        search_attributes=attributes,
        memo=head.memo,
        parent=head.parent,
        first_run_id=head.first_run_id or head.run_id,
        continued_run_id=head.run_id,
        identity=draft.identity,
        traceparent=head.traceparent,
    )
    draft.close(RunClosure(ExecutionStatus.CONTINUED_AS_NEW, new_run_id=run_id))
    successor, first = continued_run(started, draft.now_ms, head.execution_deadline_ms)
    draft.successor, draft.successor_events = successor, [first]


def _check_limit(count: int, limit: int, what: str, remedy: str) -> None:
    if count > limit:
        raise LimitExceeded(f"a run may have {limit} {what}, this one would have {count}: {remedy}")


_EFFECTS: dict[type[Any], Callable[[HistoryDraft, Any], None]] = {
    ev.ActivityTaskScheduled: _schedule,
    ev.ActivityTaskCancelRequested: _cancel_activity,
    ev.TimerStarted: _start_timer,
    ev.TimerCanceled: _cancel_timer,
    ev.StartChildWorkflowExecutionInitiated: _start_child,
    ev.SignalExternalWorkflowExecutionInitiated: _signal_external,
    ev.RequestCancelExternalWorkflowExecutionInitiated: _cancel_external,
    ev.UpsertWorkflowSearchAttributes: _upsert,
    ev.WorkflowExecutionUpdateAccepted: _accept,
    ev.WorkflowExecutionCompleted: _complete,
    ev.WorkflowExecutionFailed: _fail,
    ev.WorkflowExecutionCanceled: _cancel,
}

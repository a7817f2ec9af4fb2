"""The effects of the commands of a workflow task: their events and their writes. Pure.

A command is the attributes of its own event (``workflows.model.commands``); each also changes what
is pending, sends messages to other executions, or ends the run.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from workflows.engine.store.draft import HistoryDraft, RunClosure
from workflows.engine.store.keys import new_id, next_run_id
from workflows.engine.store.records import (
    ChildRecord,
    RequestCancel,
    Sender,
    Signal,
    Start,
    Timer,
    continued_run,
)
from workflows.model import events as ev
from workflows.model import limits
from workflows.model.commands import Command
from workflows.model.errors import LimitExceeded
from workflows.model.policies import ExecutionStatus

_WAIT: Final = "wait for some of them first"


def apply_commands(draft: HistoryDraft, commands: tuple[Command, ...]) -> None:
    """Record the commands and apply their effects, in order. Raises LimitExceeded."""
    if len(commands) > limits.COMMANDS_MAX:
        raise LimitExceeded(
            f"{len(commands)} commands of one task, COMMANDS_MAX is {limits.COMMANDS_MAX}: "
            "await something in between"
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
        _WAIT,
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
        len(pending), limits.PENDING_TIMERS_MAX, "pending timers (PENDING_TIMERS_MAX)", _WAIT
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
        _WAIT,
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

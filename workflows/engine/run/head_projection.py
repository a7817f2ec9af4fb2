"""Computes the head of a run (its stored state) from the history of the run. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from workflows.engine.store.records import ChildRecord, RunHead, Timer, reserved_head
from workflows.model import events as ev
from workflows.model.commands import COMMAND_NAMES
from workflows.model.policies import ExecutionStatus

CLOSED_AS: dict[type[ev.Attributes], ExecutionStatus] = {
    ev.WorkflowExecutionCompleted: ExecutionStatus.COMPLETED,
    ev.WorkflowExecutionFailed: ExecutionStatus.FAILED,
    ev.WorkflowExecutionTimedOut: ExecutionStatus.TIMED_OUT,
    ev.WorkflowExecutionCanceled: ExecutionStatus.CANCELED,
    ev.WorkflowExecutionTerminated: ExecutionStatus.TERMINATED,
    ev.WorkflowExecutionContinuedAsNew: ExecutionStatus.CONTINUED_AS_NEW,
}
REQUEST_IDS_MAX = 32
"""A head keeps this many request ids. A signal with a kept id is not recorded again."""

_IGNORED = (
    ev.WorkflowTaskStarted,
    ev.WorkflowTaskFailed,
    ev.WorkflowExecutionPaused,
    ev.WorkflowExecutionUnpaused,
    ev.ActivityTaskStarted,
)
"""Events that the workflow's code does not process."""


def head_of_history(events: Sequence[ev.HistoryEvent]) -> RunHead:
    """The head after all events of a history. Sizes, results and reasons are not computed."""
    first = events[0].attributes
    assert isinstance(first, ev.WorkflowExecutionStarted), "a history begins with its start"
    head = reserved_head(first, events[0].event_time_ms)
    activities: dict[int, None] = {}
    timers: dict[int, Timer] = {}
    children: dict[int, ChildRecord] = {}
    due = True
    after_task = False
    for event in events:
        kind = event.attributes
        match kind:
            case ev.ActivityTaskScheduled():
                activities[kind.activity_id] = None
            case (
                ev.ActivityTaskCompleted()
                | ev.ActivityTaskFailed()
                | ev.ActivityTaskTimedOut()
                | ev.ActivityTaskCanceled()
            ):
                activities.pop(kind.activity_id, None)
            case ev.TimerStarted():
                at_ms = event.event_time_ms + round(kind.start_to_fire_s * 1000)
                timers[kind.timer_id] = Timer(kind.timer_id, at_ms)
            case ev.TimerFired() | ev.TimerCanceled():
                timers.pop(kind.timer_id, None)
            case _:
                _apply_to_children(children, kind)
                head = _apply_to_head(head, kind)
        # The events directly after a completed task record its commands. Any other event that the
        # code processes makes the run due.
        if isinstance(kind, ev.WorkflowTaskCompleted):
            due, after_task = False, True
        elif not (after_task and type(kind) in COMMAND_NAMES) and not isinstance(kind, _IGNORED):
            due, after_task = True, False
    return head._replace(
        next_event_id=events[-1].event_id + 1,
        last_ms=events[-1].event_time_ms,
        due=due and head.is_open,
        activities=tuple(activities) if head.is_open else (),
        timers=tuple(timers.values()) if head.is_open else (),
        children=tuple(children.values()) if head.is_open else (),
    )


def with_request_id(requests: tuple[str, ...], request_id: str) -> tuple[str, ...]:
    """The ids of the latest signals, after a signal with ``request_id``, which may be ""."""
    return (*requests, request_id)[-REQUEST_IDS_MAX:] if request_id else requests


def _apply_to_head(head: RunHead, kind: ev.Attributes) -> RunHead:
    match kind:
        case ev.WorkflowExecutionCancelRequested():
            return head._replace(cancelling=True)
        case ev.WorkflowExecutionSignaled():
            requests = with_request_id(head.requests, kind.request_id)
            return head._replace(signals=head.signals + 1, requests=requests)
        case ev.WorkflowExecutionUpdateAccepted():
            return head._replace(updates=(*head.updates, kind.update_id))
        case ev.WorkflowExecutionPaused():
            return head._replace(status=ExecutionStatus.PAUSED, paused_activity=kind.activity_id)
        case ev.WorkflowExecutionUnpaused():
            return head._replace(status=ExecutionStatus.RUNNING, paused_activity=0)
        case ev.UpsertWorkflowSearchAttributes():
            merged = {**head.search_attributes, **kind.search_attributes}
            attributes = {name: value for name, value in merged.items() if value is not None}
            return head._replace(search_attributes=attributes)
    status = CLOSED_AS.get(type(kind))
    return head if status is None else head._replace(status=status)


def _apply_to_children(children: dict[int, ChildRecord], kind: ev.Attributes) -> None:
    match kind:
        case ev.StartChildWorkflowExecutionInitiated():
            children[kind.child_id] = ChildRecord(
                kind.child_id, kind.workflow_id, kind.parent_close_policy
            )
        case ev.ChildWorkflowExecutionStarted():
            children[kind.child_id] = children[kind.child_id]._replace(run_id=kind.run_id)
        case (
            ev.StartChildWorkflowExecutionFailed()
            | ev.ChildWorkflowExecutionCompleted()
            | ev.ChildWorkflowExecutionFailed()
            | ev.ChildWorkflowExecutionCanceled()
            | ev.ChildWorkflowExecutionTimedOut()
            | ev.ChildWorkflowExecutionTerminated()
        ):
            children.pop(kind.child_id, None)

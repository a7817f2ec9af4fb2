"""Checks the invariants of a history, which hold after any failure. Pure.

- Event ids are contiguous, and times do not decrease.
- The first event is the only start. No event follows a closing event.
- Every operation starts once, and ends at most once, after the start.
- Workflow tasks do not overlap.
- The stored head of the run equals the head that is computed from the history.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

from workflows.engine.run.head_projection import CLOSED_AS, head_of_history
from workflows.engine.store.records import RunHead
from workflows.model import events as ev

_BEGINS: dict[type[ev.Attributes], tuple[str, str]] = {
    # class of the event: (kind of operation, field with its id)
    ev.ActivityTaskScheduled: ("activity", "activity_id"),
    ev.TimerStarted: ("timer", "timer_id"),
    ev.StartChildWorkflowExecutionInitiated: ("child", "child_id"),
    ev.WorkflowExecutionUpdateAccepted: ("update", "update_id"),
    ev.SignalExternalWorkflowExecutionInitiated: ("signal", "request_id"),
    ev.RequestCancelExternalWorkflowExecutionInitiated: ("cancel", "request_id"),
}
_ENDS: dict[type[ev.Attributes], tuple[str, str]] = {
    ev.ActivityTaskCompleted: ("activity", "activity_id"),
    ev.ActivityTaskFailed: ("activity", "activity_id"),
    ev.ActivityTaskTimedOut: ("activity", "activity_id"),
    ev.ActivityTaskCanceled: ("activity", "activity_id"),
    ev.TimerFired: ("timer", "timer_id"),
    ev.TimerCanceled: ("timer", "timer_id"),
    ev.StartChildWorkflowExecutionFailed: ("child", "child_id"),
    ev.ChildWorkflowExecutionCompleted: ("child", "child_id"),
    ev.ChildWorkflowExecutionFailed: ("child", "child_id"),
    ev.ChildWorkflowExecutionCanceled: ("child", "child_id"),
    ev.ChildWorkflowExecutionTimedOut: ("child", "child_id"),
    ev.ChildWorkflowExecutionTerminated: ("child", "child_id"),
    ev.WorkflowExecutionUpdateCompleted: ("update", "update_id"),
    ev.ExternalWorkflowExecutionSignaled: ("signal", "request_id"),
    ev.SignalExternalWorkflowExecutionFailed: ("signal", "request_id"),
    ev.ExternalWorkflowExecutionCancelRequested: ("cancel", "request_id"),
    ev.RequestCancelExternalWorkflowExecutionFailed: ("cancel", "request_id"),
}
_COMPARED_FIELDS = (
    "next_event_id",
    "due",
    "activities",
    "timers",
    "children",
    "cancelling",
    "signals",
    "requests",
)


def violations(history: Sequence[ev.HistoryEvent], head: RunHead | None = None) -> list[str]:
    """Describe each violated invariant."""
    if not history:
        return [] if head is None or head.next_event_id == 1 else ["the history is empty"]
    violated = [*_order_violations(history), *_pair_violations(history), *_task_violations(history)]
    if head is not None and not violated:
        violated.extend(_head_differences(head, history))
    return violated


def _order_violations(history: Sequence[ev.HistoryEvent]) -> Iterator[str]:
    if not isinstance(history[0].attributes, ev.WorkflowExecutionStarted):
        yield f"the first event is {history[0].event_type}"
    for number, event in enumerate(history, 1):
        if event.event_id != number:
            yield f"expected event {number}, got {event.event_id}"
    for before, after in pairwise(history):
        if after.event_time_ms < before.event_time_ms:
            yield f"event {after.event_id} has an earlier time than the event before it"
        if type(before.attributes) in CLOSED_AS:
            yield f"event {after.event_id} follows a closing event"
    starts = sum(isinstance(event.attributes, ev.WorkflowExecutionStarted) for event in history)
    if starts != 1:
        yield f"{starts} events start the run"


def _pair_violations(history: Sequence[ev.HistoryEvent]) -> Iterator[str]:
    started_operations: set[tuple[str, object]] = set()
    ended_operations: set[tuple[str, object]] = set()
    for event in history:
        event_class = type(event.attributes)
        if event_class in _BEGINS:
            kind, field = _BEGINS[event_class]
            operation = (kind, getattr(event.attributes, field))
            if operation in started_operations:
                yield f"event {event.event_id} starts {kind} {operation[1]} again"
            started_operations.add(operation)
        if event_class in _ENDS:
            kind, field = _ENDS[event_class]
            operation = (kind, getattr(event.attributes, field))
            if operation not in started_operations:
                yield f"event {event.event_id} ends {kind} {operation[1]}, which was not started"
            if operation in ended_operations:
                yield f"event {event.event_id} ends {kind} {operation[1]} again"
            ended_operations.add(operation)


def _task_violations(history: Sequence[ev.HistoryEvent]) -> Iterator[str]:
    is_running = False
    for event in history:
        match event.attributes:
            case ev.WorkflowTaskStarted():
                if is_running:
                    yield f"event {event.event_id} starts a task during another task"
                is_running = True
            case ev.WorkflowTaskCompleted() | ev.WorkflowTaskTimedOut():
                if not is_running:
                    yield f"event {event.event_id} completes a task that did not start"
                is_running = False


def _head_differences(head: RunHead, history: Sequence[ev.HistoryEvent]) -> Iterator[str]:
    computed = head_of_history(history)
    if computed.status is not head.status:
        yield f"status: head {head.status.value}, history {computed.status.value}"
    for name in _COMPARED_FIELDS:
        if head.is_open and getattr(computed, name) != getattr(head, name):
            yield f"{name}: head {getattr(head, name)!r}, history {getattr(computed, name)!r}"

"""From the events of a history to what they do in a run: one function, one case for each type."""

from __future__ import annotations

from collections.abc import Sequence

from workflows.interpreter.run import Run
from workflows.model import events as ev
from workflows.model.errors import (
    ActivityError,
    ApplicationError,
    CancelledError,
    TimeoutError,  # noqa: A004 - Temporal's name
)
from workflows.model.failures import error_of

SIGNAL = ev.WorkflowExecutionSignaled

NOT_FOR_CODE = (
    ev.WorkflowTaskScheduled,
    ev.WorkflowTaskStarted,
    ev.WorkflowTaskCompleted,
    ev.WorkflowTaskTimedOut,
    ev.WorkflowTaskFailed,
    ev.WorkflowExecutionPaused,
    ev.WorkflowExecutionUnpaused,
    ev.ActivityTaskStarted,
)
"""Events that workflow code never hears of."""

ENDED_FROM_OUTSIDE = (ev.WorkflowExecutionTerminated, ev.WorkflowExecutionTimedOut)
"""Events after which the code does not run."""

NO_SUCH_EXECUTION = "NoSuchExecution"
"""The failure type of a signal or cancel request to an execution that is not open."""


def in_order(batch: Sequence[ev.HistoryEvent]) -> list[ev.HistoryEvent]:
    """Signals first: they are processed before the events that resume waiting code."""
    if len(batch) == 1:
        return list(batch)
    return sorted(batch, key=lambda event: type(event.attributes) is not SIGNAL)


def apply(run: Run, event: ev.HistoryEvent) -> None:
    """Apply one event to a run. What becomes ready runs afterwards."""
    attributes = event.attributes
    match attributes:
        case ev.WorkflowExecutionStarted():
            run.start_main()
        case ev.WorkflowExecutionSignaled():
            run.messages.signal(attributes)
        case ev.WorkflowExecutionCancelRequested():
            run.request_cancel()
        case ev.TimerFired():
            timer = run.timers.get(attributes.timer_id)
            if timer is not None:
                timer.set_result(None)
        case _:
            if not (run.children.apply(attributes) or _external(run, attributes)):
                _activity(run, attributes)


def _activity(run: Run, event: ev.Attributes) -> None:
    activity = run.activities.get(getattr(event, "activity_id", 0))
    if activity is None:
        return  # cancelled, and its outcome is not awaited
    match event:
        case ev.ActivityTaskCompleted():
            activity.resolve(event.result)
        case ev.ActivityTaskFailed():
            error = _activity_error(
                activity.request.command, "the activity failed", event.retry_state
            )
            error.__cause__ = error_of(event.failure)
            activity.set_error(error)
        case ev.ActivityTaskTimedOut():
            error = _activity_error(activity.request.command, "time was over", event.retry_state)
            error.__cause__ = TimeoutError(f"{event.timeout_type} timeout", type=event.timeout_type)
            if event.failure is not None:
                error.__cause__.__cause__ = error_of(event.failure)
            activity.set_error(error)
        case ev.ActivityTaskCanceled():
            activity.set_error(CancelledError(f"{activity.label} was cancelled"))


def _activity_error(command: object, message: str, retry_state: str) -> ActivityError:
    assert isinstance(command, ev.ActivityTaskScheduled), command
    name, number = command.activity_type, str(command.activity_id)
    text = f"{name} #{number}: {message}"
    return ActivityError(text, type=name, subject=number, retry_state=str(retry_state))


def _external(run: Run, event: ev.Attributes) -> bool:
    number = getattr(event, "request_id", None)
    if not isinstance(number, int):
        return False
    request = run.externals.get(number)
    if request is None:
        return True  # a child's cancel request: its outcome is what is waited for
    if isinstance(
        event,
        ev.SignalExternalWorkflowExecutionFailed | ev.RequestCancelExternalWorkflowExecutionFailed,
    ):
        message = event.message or "there is no such running execution"
        request.set_error(ApplicationError(message, type=NO_SUCH_EXECUTION, non_retryable=True))
    else:
        request.set_result(None)
    return True

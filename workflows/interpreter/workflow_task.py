"""Execute one workflow task: apply each event, then run all code that it makes ready.

Events are applied one by one, however they were batched. ``apply`` has one case for each type of
event. An exception from outside the workflow function and its handlers, or of a type that is
neither a FailureError nor a CancelledError, fails the workflow task, not the execution.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from workflows.interpreter import guard
from workflows.interpreter.run import Run
from workflows.model import events as ev
from workflows.model.commands import UpdateRejection, UpdateRequest
from workflows.model.errors import (
    ActivityError,
    ApplicationError,
    CancelledError,
    TimeoutError,  # noqa: A004 - Temporal's name
    UnhandledError,
    WorkflowTaskError,
)
from workflows.model.failures import error_of, failure_of
from workflows.model.payloads import Payload

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
"""Events that are not passed to workflow code."""

ENDED_FROM_OUTSIDE = (ev.WorkflowExecutionTerminated, ev.WorkflowExecutionTimedOut)
"""Events after which the code does not run."""

NO_SUCH_EXECUTION = "NoSuchExecution"
"""The failure type of a signal or cancel request to an execution that is not open."""


def signals_first(batch: Sequence[ev.HistoryEvent]) -> list[ev.HistoryEvent]:
    """Put signals first: they are processed before the events that resume waiting code."""
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
            error = _activity_error(activity.request.command, "timed out", event.retry_state)
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
        return True  # a child's cancel request: the code waits for the child's outcome
    if isinstance(
        event,
        ev.SignalExternalWorkflowExecutionFailed | ev.RequestCancelExternalWorkflowExecutionFailed,
    ):
        message = event.message or "there is no such running execution"
        request.set_error(ApplicationError(message, type=NO_SUCH_EXECUTION, non_retryable=True))
    else:
        request.set_result(None)
    return True


def run_task(
    run: Run, started: ev.HistoryEvent, batch: Sequence[ev.HistoryEvent], *, replaying: bool
) -> None:
    """Run one workflow task with the events of its batch.

    ``started``: the WorkflowTaskStarted event that opens the task.
    """
    run.begin(started, replaying=replaying)
    if any(isinstance(event.attributes, ev.WorkflowExecutionStarted) for event in batch):
        _turn(run, run.create)
    for event in signals_first(batch):
        if run.closed:
            return  # events after the end of the run are ignored
        _turn(run, lambda event=event: apply(run, event))  # type: ignore[misc]


def take_updates(run: Run, requests: Iterable[UpdateRequest]) -> tuple[UpdateRejection, ...]:
    """Validate updates and run the handlers of those that are accepted."""
    rejections: list[UpdateRejection] = []
    for request in requests:
        _turn(run, lambda request=request: _decide_update(run, request, rejections))  # type: ignore[misc]
    return tuple(rejections)


def repeat_updates(run: Run, accepted: Iterable[ev.WorkflowExecutionUpdateAccepted]) -> None:
    """Replay the handlers of updates that the history records as accepted."""
    for update in accepted:
        _turn(run, lambda update=update: run.messages.update(update))  # type: ignore[misc]


def run_query(run: Run, name: str, args: Sequence[Payload]) -> Payload:
    """The result of a query."""
    with guard.watchdog.watched(f"query {name}"):
        result = run.messages.query(name, args)
    guard.check()
    return result


def _decide_update(run: Run, request: UpdateRequest, rejections: list[UpdateRejection]) -> None:
    if run.closed:
        error = ApplicationError("the run has ended", type="WorkflowClosed", non_retryable=True)
        rejections.append(UpdateRejection(request.update_id, failure_of(error)))
        return
    rejection = run.messages.validate(request)
    if rejection is not None:
        rejections.append(rejection)
        return
    update_id, name, args, identity, _ = request
    run.messages.update(ev.WorkflowExecutionUpdateAccepted(update_id, name, args, identity))


def _turn(run: Run, apply_input: Callable[[], object]) -> None:
    if run.closed:
        apply_input()
        return
    try:
        with guard.watchdog.watched(run.definition.name):
            apply_input()
            run.loop.run_until_idle()
    except WorkflowTaskError:
        raise
    except Exception as error:
        raise UnhandledError(f"{run.definition.name}: {error!r}") from error
    guard.check()

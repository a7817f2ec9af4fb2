"""Execute workflow code deterministically: a history in, commands out.

    interpreter = Interpreter(registry)
    decision = interpreter.activate(history)       # the last event is WorkflowTaskStarted
    ...                                            # append WorkflowTaskCompleted and one event for
                                                   # each command of the decision
    decision = interpreter.activate(newer_events)  # only new events

Pass every event of a run once, in order. A task whose outcome is among the events is replayed:
the code runs again, and the commands are compared with the recorded events. The commands of a task
without an outcome are the decision.

After each event, all code that the event made ready runs (a turn). A FailureError or
CancelledError of the workflow function ends the execution. Any other exception fails only the
workflow task.

The same events always give the same commands. After a WorkflowTaskError, and after a decision that
was not committed, close the interpreter and make another one from the whole history.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice

from workflows.api.definitions import Registry
from workflows.interpreter import guard
from workflows.interpreter.guard import CodeScope
from workflows.interpreter.operations import Matcher
from workflows.interpreter.run_state import PATCH_MARKER, Run
from workflows.model import events as ev
from workflows.model.commands import COMMAND_NAMES, Decision, UpdateRejection, UpdateRequest
from workflows.model.errors import (
    ActivityError,
    ApplicationError,
    CancelledError,
    HistoryError,
    QueryError,
    TimeoutError,  # noqa: A004 - Temporal's name
    UnhandledError,
    WorkflowTaskError,
)
from workflows.model.failures import error_of, failure_of
from workflows.model.payloads import Payload

_OUTCOMES = (ev.WorkflowTaskCompleted, ev.WorkflowTaskFailed, ev.WorkflowTaskTimedOut)


class Interpreter:
    """The interpreter of one run."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._matcher = Matcher()
        self._run: Run | None = None
        self._inputs: list[ev.HistoryEvent] = []
        self._last_event_id = 0
        self._has_uncommitted_decision = False
        self._broken = False

    @property
    def last_event_id(self) -> int:
        """The id of the last event that was passed, or 0."""
        return self._last_event_id

    @property
    def closed(self) -> bool:
        """Whether the run has ended."""
        return self._run is not None and self._run.closed

    @property
    def waiting_for(self) -> tuple[str, ...]:
        """The future that each task of the code awaits, as text."""
        return self._run.waiting_for() if self._run is not None else ()

    @property
    def queries(self) -> tuple[str, ...]:
        """The names of the queries that have a handler."""
        return self._run.messages.queries if self._run is not None else ()

    def activate(
        self, events: Sequence[ev.HistoryEvent], *, updates: Sequence[UpdateRequest] = ()
    ) -> Decision:
        """Process the next events, and execute the workflow task that has no outcome yet.

        Accepted ``updates`` become commands, all others rejections. Raises WorkflowTaskError, after
        which the interpreter cannot be used.
        """
        if self._broken:
            raise HistoryError(
                "this interpreter failed or was closed: make a new one from the whole history"
            )
        try:
            return self._activate(events, updates)
        except BaseException:
            self.close()
            raise

    def query(self, name: str, args: Sequence[Payload] = ()) -> Payload:
        """The result of a query as of the last event. Raises QueryError."""
        if self._run is None or self._broken:
            raise QueryError(
                f"query {name} has no answer: the workflow's code has not run yet, or has failed"
            )
        with CodeScope(self._run):
            return _run_query(self._run, name, args)

    def check_complete(self) -> None:
        """Raise NonDeterminismError if commands have no event in the history."""
        self._matcher.check_all_matched(self._last_event_id + 1, "the end of the history")

    def close(self) -> None:
        """Close the run. Afterwards ``activate`` and ``query`` raise an error."""
        self._broken = True
        run = self._run
        if run is None:
            return
        if run.loop.tasks:
            with CodeScope(run):
                run.close()
        run.messages.unbind()

    # ---------------------------------------------------------------------------- the history

    def _activate(
        self, events: Sequence[ev.HistoryEvent], updates: Sequence[UpdateRequest]
    ) -> Decision:
        if not events:
            raise HistoryError("there are no events to process")
        run = self._run or self._create_run(events[0])
        for event in events:
            marker = event.attributes
            if isinstance(marker, ev.MarkerRecorded) and marker.marker_name == PATCH_MARKER:
                run.known_patches.add(marker.key)
        decision = Decision(())
        with CodeScope(run):
            for index, event in enumerate(events):
                self._check_event_id(event)
                kind = type(event.attributes)
                if kind in COMMAND_NAMES:
                    self._matcher.match(event)
                elif kind is ev.WorkflowTaskStarted:
                    decision = self._task(run, events, index, updates) or decision
                elif kind in NOT_FOR_CODE:
                    self._check_committed(event)
                else:
                    self._add_input(run, event)
            if run.closed:
                run.close()  # further commands of its code are ignored
        return decision._replace(closed=True) if run.closed else decision

    def _create_run(self, event: ev.HistoryEvent) -> Run:
        started = event.attributes
        if not isinstance(started, ev.WorkflowExecutionStarted):
            raise HistoryError(
                f"the first event is {event.event_type}, not WorkflowExecutionStarted: pass the"
                " whole history"
            )
        definition = self._registry.workflows.get(started.workflow_type)
        if definition is None:
            types = ", ".join(sorted(self._registry.workflows)) or "none"
            raise HistoryError(
                f"workflow type {started.workflow_type} is not registered; registered are: {types}"
            )
        self._run = Run(definition, event, self._registry.interceptors)
        return self._run

    def _check_event_id(self, event: ev.HistoryEvent) -> None:
        if event.event_id != self._last_event_id + 1:
            raise HistoryError(
                f"expected event {self._last_event_id + 1}, got event {event.event_id}"
            )
        self._last_event_id = event.event_id

    def _check_committed(self, event: ev.HistoryEvent) -> None:
        if self._has_uncommitted_decision and isinstance(event.attributes, _OUTCOMES):
            if not isinstance(event.attributes, ev.WorkflowTaskCompleted):
                raise HistoryError(
                    f"event {event.event_id} is {event.event_type}: the decision of this workflow"
                    " task was not committed; make a new interpreter from the whole history"
                )
            self._has_uncommitted_decision = False

    def _add_input(self, run: Run, event: ev.HistoryEvent) -> None:
        if isinstance(event.attributes, ENDED_FROM_OUTSIDE):
            run.end()
        else:
            self._inputs.append(event)

    # -------------------------------------------------------------------------------- the tasks

    def _task(
        self,
        run: Run,
        events: Sequence[ev.HistoryEvent],
        index: int,
        requests: Sequence[UpdateRequest],
    ) -> Decision | None:
        """Execute the task that ``events[index]`` starts.

        Returns the decision, or None if the events have an outcome of the task.
        """
        started = events[index]
        outcome = _outcome_index(events, index)
        if outcome is not None and not isinstance(
            events[outcome].attributes, ev.WorkflowTaskCompleted
        ):
            return None  # the task failed or timed out: the next task gets the inputs
        self._matcher.check_all_matched(started.event_id, "the next workflow task")
        batch, self._inputs = self._inputs, []
        _run_task(run, started, batch, replaying=outcome is not None)
        rejections: tuple[UpdateRejection, ...] = ()
        if outcome is None:
            self._has_uncommitted_decision = True
            rejections = _take_updates(run, requests)
        else:
            _repeat_updates(run, _accepted_updates(events, outcome))
        commands = run.commands.take()
        self._matcher.expect(commands)
        return Decision(commands, rejections) if outcome is None else None


def _outcome_index(events: Sequence[ev.HistoryEvent], index: int) -> int | None:
    for position in range(index + 1, len(events)):
        if isinstance(events[position].attributes, _OUTCOMES):
            return position
    return None


def _accepted_updates(
    events: Sequence[ev.HistoryEvent], outcome: int
) -> Iterator[ev.WorkflowExecutionUpdateAccepted]:
    """The updates that a completed task accepted. Command events follow index ``outcome``."""
    for event in islice(events, outcome + 1, None):
        if type(event.attributes) not in COMMAND_NAMES:
            return
        if isinstance(event.attributes, ev.WorkflowExecutionUpdateAccepted):
            yield event.attributes


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

ENDED_FROM_OUTSIDE = (ev.WorkflowExecutionTerminated, ev.WorkflowExecutionTimedOut)

NO_SUCH_EXECUTION = "NoSuchExecution"
"""The failure type of a request to an execution that is not open."""


def signals_first(batch: Sequence[ev.HistoryEvent]) -> list[ev.HistoryEvent]:
    """Put signals before the events that resume waiting code."""
    if len(batch) == 1:
        return list(batch)
    return sorted(batch, key=lambda event: type(event.attributes) is not SIGNAL)


def _apply_event(run: Run, event: ev.HistoryEvent) -> None:
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
            if not (run.children.apply(attributes) or _apply_to_external(run, attributes)):
                _apply_to_activity(run, attributes)


def _apply_to_activity(run: Run, event: ev.Attributes) -> None:
    activity = run.activities.get(getattr(event, "activity_id", 0))
    if activity is None:
        return  # it was cancelled, and its outcome is not awaited
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


def _apply_to_external(run: Run, event: ev.Attributes) -> bool:
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


def _run_task(
    run: Run, started: ev.HistoryEvent, batch: Sequence[ev.HistoryEvent], *, replaying: bool
) -> None:
    run.begin(started, replaying=replaying)
    if any(isinstance(event.attributes, ev.WorkflowExecutionStarted) for event in batch):
        _turn(run, run.create)  # before the handlers of signals run
    for event in signals_first(batch):
        if run.closed:
            return  # events after the end of the run are ignored
        _turn(run, lambda event=event: _apply_event(run, event))  # type: ignore[misc]


def _take_updates(run: Run, requests: Iterable[UpdateRequest]) -> tuple[UpdateRejection, ...]:
    rejections: list[UpdateRejection] = []
    for request in requests:
        _turn(run, lambda request=request: _decide_update(run, request, rejections))  # type: ignore[misc]
    return tuple(rejections)


def _repeat_updates(run: Run, accepted: Iterable[ev.WorkflowExecutionUpdateAccepted]) -> None:
    for update in accepted:
        _turn(run, lambda update=update: run.messages.update(update))  # type: ignore[misc]


def _run_query(run: Run, name: str, args: Sequence[Payload]) -> Payload:
    with guard.watchdog.watched(f"query {name}"):
        result = run.messages.query(name, args)
    guard.raise_caught_error()
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
    if run.closed:  # no task of the code runs any more
        apply_input()
        return
    try:
        with guard.watchdog.watched(run.definition.name):
            apply_input()
            run.loop.run_until_idle()
    except WorkflowTaskError:
        raise
    except Exception as error:
        raise UnhandledError(
            f"the code of workflow {run.definition.name} raised {error!r}"
        ) from error
    guard.raise_caught_error()

"""Records the inputs of a run as events. Pure.

Inputs are messages, outcomes of activities, and due timers. They are recorded even while the run is
paused. The next workflow task processes the events (``RunHead.due``). ``run_inbox`` handles queries
and updates.
"""

from __future__ import annotations

from typing import NamedTuple

from core.eventstore.kv import Put
from workflows.engine.run.head_projection import with_request_id
from workflows.engine.run.retries import TIMEOUTS_WITHOUT_RETRY
from workflows.engine.store.draft import HistoryDraft, RunClosure
from workflows.engine.store.records import (
    ATTEMPT_CODEC,
    Attempt,
    ChildEvent,
    ChildRecord,
    ExternalEvent,
    Message,
    Pause,
    RequestCancel,
    Retry,
    RunHead,
    Sender,
    Signal,
    Start,
    Terminate,
)
from workflows.model import events as ev
from workflows.model.failures import Failure, FailureKind
from workflows.model.limits import SIGNALS_MAX
from workflows.model.payloads import Payload
from workflows.model.policies import ExecutionStatus, RetryState, TimeoutType


class ActivityOutcome(NamedTuple):
    """How an activity ended. ``state``: why there is no further attempt.

    ``last_failure``: why the previous attempt failed. ``details``: what the last heartbeat sent.
    ``recorded``: an attempt is stored. ``pauses``: the execution pauses after the last attempt.
    """

    activity_id: int
    attempt: int
    result: Payload = None
    failure: Failure | None = None
    state: RetryState | None = None
    last_failure: Failure | None = None
    details: tuple[Payload, ...] = ()
    recorded: bool = False
    pauses: bool = False

    @property
    def is_pause(self) -> bool:
        """Whether the outcome pauses the execution until a user acts."""
        return self.pauses and self.state is RetryState.MAXIMUM_ATTEMPTS_REACHED


def record_message(draft: HistoryDraft, message: Message) -> None:
    """Record one message to an open run."""
    match message:
        case Start():
            _record_start(draft, message)
        case Signal():
            _record_signal(draft, message)
        case RequestCancel():
            _record_cancel_request(draft, message)
        case Terminate():
            if _is_for_this_run(draft, message.run_id, message.parents):
                draft.add(ev.WorkflowExecutionTerminated(message.reason, message.identity))
                draft.close(RunClosure(ExecutionStatus.TERMINATED, reason=message.reason))
        case Pause():
            _record_pause(draft, message)
        case Retry():
            _record_retry(draft, message)
        case ChildEvent():
            _record_child_event(draft, message)
        case ExternalEvent():
            _record_external_event(draft, message)


def record_timer_fired(draft: HistoryDraft, timer_id: int) -> None:
    """Record that a timer has fired, if it is pending."""
    timer = next((timer for timer in draft.head.timers if timer.timer_id == timer_id), None)
    if timer is None:
        return
    # The time of the run must reach the timer's time, even if the wall clock was set back.
    draft.now_ms = max(draft.now_ms, timer.fire_ms)
    draft.add(ev.TimerFired(timer_id))
    timers = tuple(timer for timer in draft.head.timers if timer.timer_id != timer_id)
    draft.change(timers=timers, due=True)


def record_timeout(draft: HistoryDraft, at_ms: int) -> None:
    """Close the run if ``at_ms`` is its run or execution timeout."""
    head = draft.head
    if not head.is_open or at_ms not in (head.run_deadline_ms, head.execution_deadline_ms):
        return
    draft.now_ms = max(draft.now_ms, at_ms)  # as in record_timer_fired
    name = "run" if at_ms == head.run_deadline_ms else "execution"
    message = f"the {name} timeout was reached"
    draft.add(ev.WorkflowExecutionTimedOut(message))
    draft.close(RunClosure(ExecutionStatus.TIMED_OUT, reason=message))


def record_outcome(draft: HistoryDraft, outcome: ActivityOutcome) -> None:
    """Record how a pending activity ended, or pause the run under the retry policy."""
    if outcome.activity_id not in draft.head.activities:
        return
    if outcome.is_pause:
        _pause_after_last_attempt(draft, outcome)
        return
    activities = tuple(number for number in draft.head.activities if number != outcome.activity_id)
    draft.change(activities=activities, due=True)
    if outcome.recorded:
        draft.delete_attempt(outcome.activity_id)
    for event in _start_and_end_events(outcome, draft.identity):
        draft.add(event)


def _start_and_end_events(
    outcome: ActivityOutcome, identity: str
) -> tuple[ev.Attributes, ev.Attributes]:
    started = ev.ActivityTaskStarted(
        outcome.activity_id, outcome.attempt, identity, outcome.last_failure
    )
    return started, _end_event(outcome)


def _paused_event(outcome: ActivityOutcome) -> ev.WorkflowExecutionPaused:
    failure = outcome.failure
    assert failure is not None, "only a failure pauses a run"
    reason = (
        f"activity {outcome.activity_id} failed in its last attempt, number {outcome.attempt}: "
        f"{failure.type}: {failure.message}"
    )
    return ev.WorkflowExecutionPaused(reason, outcome.activity_id, failure)


def pause_for_failed_task(draft: HistoryDraft, failure: Failure) -> None:
    """Record a failed workflow task, and pause the run."""
    draft.add(ev.WorkflowTaskFailed(failure, draft.identity))
    reason = f"{failure.type}: {failure.message}"
    draft.add(ev.WorkflowExecutionPaused(reason, failure=failure))
    draft.change(
        status=ExecutionStatus.PAUSED, reason=reason, failure=failure, due=True, paused_activity=0
    )


def notify_sender(draft: HistoryDraft, sender: Sender, kind: str, refused: str = "") -> None:
    """Send the outcome of a request to its sender. ``refused``: why it failed, or ""."""
    event = ExternalEvent(sender.request_id, kind, refused, sender.run_id)
    draft.send(sender.workflow_id, event)


def _record_start(draft: HistoryDraft, start: Start) -> None:
    if draft.head.next_event_id > 1:
        return
    draft.add(start.started)
    draft.change(due=True)
    parent = start.started.parent
    if parent is not None and not start.reserved:
        run_id = start.started.run_id
        event = ChildEvent(
            parent.child_id,
            run_id,
            ExecutionStatus.RUNNING,
            parent_run_id=parent.run_id,
            workflow_id=start.started.workflow_id,
        )
        draft.send(parent.workflow_id, event)


def _is_for_this_run(draft: HistoryDraft, run_id: str, parents: tuple[str, ...] = ()) -> bool:
    head = draft.head
    if parents and (head.parent is None or head.parent.run_id not in parents):
        return False
    return not run_id or run_id in (head.run_id, head.first_run_id)


def _record_signal(draft: HistoryDraft, signal: Signal) -> None:
    head = draft.head
    if not _is_for_this_run(draft, signal.run_id):
        if signal.sender is not None:
            notify_sender(draft, signal.sender, "signal", "that run is closed")
        return
    is_new = not (signal.request_id and signal.request_id in head.requests)
    if is_new and signal.sender is not None and head.signals >= SIGNALS_MAX:
        why = (
            f"workflow {head.workflow_id} has {head.signals} signals, SIGNALS_MAX is {SIGNALS_MAX}"
        )
        notify_sender(draft, signal.sender, "signal", why)
        return
    if is_new:
        event = ev.WorkflowExecutionSignaled(
            signal.name, signal.args, signal.identity, signal.request_id, signal.traceparent
        )
        draft.add(event)
        requests = with_request_id(head.requests, signal.request_id)
        draft.change(due=True, signals=head.signals + 1, requests=requests)
    if signal.sender is not None:
        notify_sender(draft, signal.sender, "signal")


def _record_cancel_request(draft: HistoryDraft, request: RequestCancel) -> None:
    is_for_run = _is_for_this_run(draft, request.run_id, request.parents)
    if is_for_run and not draft.head.cancelling:
        draft.add(ev.WorkflowExecutionCancelRequested(request.reason, request.identity))
        draft.change(cancelling=True, due=True)
    if is_for_run and draft.head.status is ExecutionStatus.PAUSED:
        _resume_to_cancel(draft, request)
    if request.sender is not None:
        notify_sender(draft, request.sender, "cancel", "" if is_for_run else "that run is closed")


def _resume_to_cancel(draft: HistoryDraft, request: RequestCancel) -> None:
    """Resume the run, and end the activity whose failure paused it."""
    activity_id, failure = draft.head.paused_activity, draft.head.failure
    _unpause(
        draft, f"cancelled: {request.reason}" if request.reason else "cancelled", request.identity
    )
    if activity_id in draft.head.activities and failure is not None:
        draft.activities_to_restart.remove(activity_id)
        state = RetryState.MAXIMUM_ATTEMPTS_REACHED
        # Attempt 0: the number is unknown here, because only the pause event has it.
        record_outcome(
            draft,
            ActivityOutcome(activity_id, attempt=0, failure=failure, state=state, recorded=True),
        )


def _record_pause(draft: HistoryDraft, pause: Pause) -> None:
    if draft.head.status is not ExecutionStatus.RUNNING or draft.head.next_event_id == 1:
        return
    reason = f"paused by {pause.identity}" + (f": {pause.reason}" if pause.reason else "")
    draft.add(ev.WorkflowExecutionPaused(reason))
    draft.change(status=ExecutionStatus.PAUSED, reason=reason, failure=None, paused_activity=0)


def _record_retry(draft: HistoryDraft, retry: Retry) -> None:
    if draft.head.status is ExecutionStatus.PAUSED:
        _unpause(draft, retry.reason, retry.identity)


def _unpause(draft: HistoryDraft, reason: str, identity: str) -> None:
    """Resume the run; its activities start again with attempt 1."""
    draft.add(ev.WorkflowExecutionUnpaused(reason, identity))
    draft.change(status=ExecutionStatus.RUNNING, reason="", failure=None, paused_activity=0)
    for activity_id in draft.head.activities:
        draft.activities_to_restart.append(activity_id)
        draft.delete_attempt(activity_id)


def _pause_after_last_attempt(draft: HistoryDraft, outcome: ActivityOutcome) -> None:
    head, failure = draft.head, outcome.failure
    key = draft.keys.attempt(head.workflow_id, head.run_id, outcome.activity_id)
    record = Attempt(outcome.attempt + 1, last_failure=failure, details=outcome.details)
    draft.put(Put(key, ATTEMPT_CODEC.encode(record)))
    if head.status is ExecutionStatus.PAUSED:
        return
    paused = _paused_event(outcome)
    draft.add(paused)
    draft.change(
        status=ExecutionStatus.PAUSED,
        reason=paused.reason,
        failure=failure,
        paused_activity=outcome.activity_id,
    )


def _end_event(outcome: ActivityOutcome) -> ev.Attributes:
    failure, state = outcome.failure, outcome.state
    if failure is None:
        return ev.ActivityTaskCompleted(outcome.activity_id, outcome.result)
    assert state is not None, "a failure has a retry state"
    if failure.kind is FailureKind.CANCELED:
        return ev.ActivityTaskCanceled(outcome.activity_id, failure.details)
    if failure.kind is FailureKind.TIMEOUT or state is RetryState.TIMEOUT:
        is_last = (
            failure.type in TIMEOUTS_WITHOUT_RETRY or state is RetryState.MAXIMUM_ATTEMPTS_REACHED
        )
        is_own_timeout = failure.kind is FailureKind.TIMEOUT and is_last
        kind = TimeoutType(failure.type) if is_own_timeout else TimeoutType.SCHEDULE_TO_CLOSE
        cause = outcome.last_failure if is_own_timeout else failure
        return ev.ActivityTaskTimedOut(outcome.activity_id, kind, state, cause)
    return ev.ActivityTaskFailed(outcome.activity_id, failure, state)


def _record_child_event(draft: HistoryDraft, event: ChildEvent) -> None:
    children = {child.child_id: child for child in draft.head.children}
    child = children.get(event.child_id)
    if child is None or not _is_about(draft.head, child, event) or (child.run_id and event.refused):
        return
    if event.status is ExecutionStatus.RUNNING and not event.refused:
        if not child.run_id:
            children[event.child_id] = child._replace(run_id=event.run_id)
            draft.add(ev.ChildWorkflowExecutionStarted(event.child_id, event.run_id))
            draft.change(children=tuple(children.values()), due=True)
        return
    _record_child_end(draft, event, child)
    others = tuple(child for child in children.values() if child.child_id != event.child_id)
    draft.change(children=others, due=True)


def _is_about(head: RunHead, child: ChildRecord, event: ChildEvent) -> bool:
    """Whether an event is about ``child``: children of other runs can have the same number.

    ``head.bases``: earlier runs, whose children report to this run after a reset.
    """
    parent_runs = ("", head.run_id, *head.bases)
    return event.parent_run_id in parent_runs and event.workflow_id in ("", child.workflow_id)


def _record_child_end(draft: HistoryDraft, event: ChildEvent, child: ChildRecord) -> None:
    number = event.child_id
    if event.refused:
        draft.add(ev.StartChildWorkflowExecutionFailed(number, event.refused))
        return
    if not child.run_id:
        draft.add(ev.ChildWorkflowExecutionStarted(number, event.run_id))
    failure = event.failure
    match event.status:
        case ExecutionStatus.COMPLETED:
            draft.add(ev.ChildWorkflowExecutionCompleted(number, event.result))
        case ExecutionStatus.CANCELED:
            draft.add(ev.ChildWorkflowExecutionCanceled(number))
        case ExecutionStatus.TIMED_OUT:
            draft.add(ev.ChildWorkflowExecutionTimedOut(number))
        case ExecutionStatus.TERMINATED:
            draft.add(ev.ChildWorkflowExecutionTerminated(number))
        case _:
            assert failure is not None, "a failed child has a failure"
            draft.add(ev.ChildWorkflowExecutionFailed(number, failure))


def _record_external_event(draft: HistoryDraft, event: ExternalEvent) -> None:
    if event.run_id not in ("", draft.head.run_id) and not _take_base_request(draft, event):
        return
    match event.kind, event.refused:
        case "signal", "":
            draft.add(ev.ExternalWorkflowExecutionSignaled(event.request_id))
        case "signal", why:
            draft.add(ev.SignalExternalWorkflowExecutionFailed(event.request_id, why))
        case _, "":
            draft.add(ev.ExternalWorkflowExecutionCancelRequested(event.request_id))
        case _, why:
            draft.add(ev.RequestCancelExternalWorkflowExecutionFailed(event.request_id, why))
    draft.change(due=True)


def _take_base_request(draft: HistoryDraft, event: ExternalEvent) -> bool:
    """Remove the request that ``event`` answers from ``base_requests``. False: it is not there.

    A reset keeps only some requests of the earlier run. The outcome of any other request must not
    be recorded: the new run may have sent a request with the same number.
    """
    waiting = draft.head.base_requests
    numbers = waiting.get(event.run_id, ())
    if event.request_id not in numbers:
        return False
    rest = tuple(number for number in numbers if number != event.request_id)
    others = {run_id: sent for run_id, sent in waiting.items() if run_id != event.run_id}
    draft.change(base_requests={**others, event.run_id: rest} if rest else others)
    return True

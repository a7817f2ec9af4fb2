"""What reaches a run becomes events: messages, outcomes of activities, due timers. Pure.

Whatever arrives is recorded at once, also while the run is paused; the workflow's code learns of it
in the next workflow task (``RunHead.due``). Queries and updates are not for this module: they need
the code.
"""

from __future__ import annotations

from typing import NamedTuple

from core.eventstore.kv import Put
from workflows.engine.run.retries import BOUNDS_OF_ALL
from workflows.engine.store.draft import HistoryDraft, RunClosure
from workflows.engine.store.records import (
    ATTEMPT,
    Attempt,
    ChildEvent,
    ChildRecord,
    ExternalEvent,
    Message,
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

REQUESTS_KEPT_MAX = 32
"""Request ids of signals that a run remembers, so that one sent twice counts once."""


class ActivityOutcome(NamedTuple):
    """What an activity came to: ``failure`` None is success, ``state`` says why no more attempts.

    ``recorded``: an attempt's record lies in the store. ``pauses``: the execution pauses if there
    are no more attempts.
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
        """Whether a person has to look before anything goes on."""
        return self.pauses and self.state is RetryState.MAXIMUM_ATTEMPTS_REACHED


def take_message(draft: HistoryDraft, message: Message) -> None:
    """Record one message to an open run."""
    match message:
        case Start():
            _start(draft, message)
        case Signal():
            _signal(draft, message)
        case RequestCancel():
            _request_cancel(draft, message)
        case Terminate():
            if _for_this_run(draft, message.run_id, message.parents):
                draft.add(ev.WorkflowExecutionTerminated(message.reason, message.identity))
                draft.close(RunClosure(ExecutionStatus.TERMINATED, reason=message.reason))
        case Retry():
            _retry(draft, message)
        case ChildEvent():
            _child_news(draft, message)
        case ExternalEvent():
            _external_news(draft, message)


def take_timer(draft: HistoryDraft, timer_id: int) -> None:
    """The time of a timer is over; one that is not pending any more stays silent."""
    timer = next((each for each in draft.head.timers if each.timer_id == timer_id), None)
    if timer is None:
        return
    # The run's time has passed as its timer says, also when the wall clock was set back meanwhile.
    draft.now_ms = max(draft.now_ms, timer.fire_ms)
    draft.add(ev.TimerFired(timer_id))
    left = tuple(each for each in draft.head.timers if each.timer_id != timer_id)
    draft.change(timers=left, due=True)


def take_deadline(draft: HistoryDraft, at_ms: int) -> None:
    """End the run if that is a deadline of it, and it has not ended."""
    head = draft.head
    if not head.is_open or at_ms not in (head.run_deadline_ms, head.execution_deadline_ms):
        return
    draft.now_ms = max(draft.now_ms, at_ms)  # as of a timer
    name = "run" if at_ms == head.run_deadline_ms else "execution"
    message = f"the {name} timeout was reached"
    draft.add(ev.WorkflowExecutionTimedOut(message))
    draft.close(RunClosure(ExecutionStatus.TIMED_OUT, reason=message))


def take_outcome(draft: HistoryDraft, outcome: ActivityOutcome) -> None:
    """Record how an activity ended, or pause for it; one that is not pending stays silent."""
    if outcome.activity_id not in draft.head.activities:
        return
    if outcome.is_pause:
        _exhausted(draft, outcome)
        return
    left = tuple(each for each in draft.head.activities if each != outcome.activity_id)
    draft.change(activities=left, due=True)
    if outcome.recorded:
        draft.forget_attempt(outcome.activity_id)
    for event in events_of(outcome, draft.identity):
        draft.add(event)


def events_of(outcome: ActivityOutcome, identity: str = "") -> tuple[ev.Attributes, ev.Attributes]:
    """What the history says of an activity that has ended: its start is written with its end."""
    started = ev.ActivityTaskStarted(
        outcome.activity_id, outcome.attempt, identity, outcome.last_failure
    )
    return started, _closing_of(outcome)


def exhausted(outcome: ActivityOutcome) -> ev.WorkflowExecutionPaused:
    """That was the last attempt: a human has to look."""
    failure = outcome.failure
    assert failure is not None, "an activity without a failure needs no further attempt"
    reason = (
        f"activity {outcome.activity_id} failed in its last attempt, number {outcome.attempt}: "
        f"{failure.type}: {failure.message}"
    )
    return ev.WorkflowExecutionPaused(reason, outcome.activity_id, failure)


def pause_for_code(draft: HistoryDraft, failure: Failure) -> None:
    """The workflow's code could not go on: wait for better code."""
    draft.add(ev.WorkflowTaskFailed(failure, draft.identity))
    reason = f"{failure.type}: {failure.message}"
    draft.add(ev.WorkflowExecutionPaused(reason, 0, failure))
    draft.change(
        status=ExecutionStatus.PAUSED, reason=reason, failure=failure, due=True, paused_activity=0
    )


def reply_to_sender(draft: HistoryDraft, sender: Sender, kind: str, refused: str = "") -> None:
    """Tell another execution what became of its request."""
    news = ExternalEvent(sender.request_id, kind, refused, sender.run_id)
    draft.send(sender.workflow_id, news)


def _start(draft: HistoryDraft, start: Start) -> None:
    if draft.head.next_event_id > 1:
        return
    draft.add(start.started)
    draft.change(due=True)
    parent = start.started.parent
    if parent is not None and not start.reserved:
        run_id = start.started.run_id
        news = ChildEvent(
            parent.child_id,
            run_id,
            ExecutionStatus.RUNNING,
            parent_run_id=parent.run_id,
            workflow_id=start.started.workflow_id,
        )
        draft.send(parent.workflow_id, news)


def _for_this_run(draft: HistoryDraft, run_id: str, parents: tuple[str, ...] = ()) -> bool:
    head = draft.head
    if parents and (head.parent is None or head.parent.run_id not in parents):
        return False
    return not run_id or run_id in (head.run_id, head.first_run_id)


def _signal(draft: HistoryDraft, signal: Signal) -> None:
    head = draft.head
    if not _for_this_run(draft, signal.run_id):
        if signal.sender is not None:
            reply_to_sender(draft, signal.sender, "signal", "that run is closed")
        return
    is_new = not (signal.request_id and signal.request_id in head.requests)
    if is_new and signal.sender is not None and head.signals >= SIGNALS_MAX:
        why = f"it has {head.signals} signals, SIGNALS_MAX is {SIGNALS_MAX}"
        reply_to_sender(draft, signal.sender, "signal", why)
        return
    if is_new:
        event = ev.WorkflowExecutionSignaled(
            signal.name, signal.args, signal.identity, signal.request_id, signal.traceparent
        )
        draft.add(event)
        kept = (*head.requests, signal.request_id) if signal.request_id else head.requests
        draft.change(due=True, signals=head.signals + 1, requests=kept[-REQUESTS_KEPT_MAX:])
    if signal.sender is not None:
        reply_to_sender(draft, signal.sender, "signal")


def _request_cancel(draft: HistoryDraft, request: RequestCancel) -> None:
    fits = _for_this_run(draft, request.run_id, request.parents)
    if fits and not draft.head.cancelling:
        draft.add(ev.WorkflowExecutionCancelRequested(request.reason, request.identity))
        draft.change(cancelling=True, due=True)
    if fits and draft.head.status is ExecutionStatus.PAUSED:
        _go_on_to_cancel(draft, request)
    if request.sender is not None:
        reply_to_sender(draft, request.sender, "cancel", "" if fits else "that run is closed")


def _go_on_to_cancel(draft: HistoryDraft, request: RequestCancel) -> None:
    """The code hears of the cancellation, and that the activity it was paused for has failed."""
    activity_id, failure = draft.head.paused_activity, draft.head.failure
    _unpause(
        draft, f"cancelled: {request.reason}" if request.reason else "cancelled", request.identity
    )
    if activity_id in draft.head.activities and failure is not None:
        draft.again.remove(activity_id)
        state = RetryState.MAXIMUM_ATTEMPTS_REACHED
        take_outcome(
            draft, ActivityOutcome(activity_id, 0, failure=failure, state=state, recorded=True)
        )


def _retry(draft: HistoryDraft, retry: Retry) -> None:
    if draft.head.status is ExecutionStatus.PAUSED:
        _unpause(draft, retry.reason, retry.identity)


def _unpause(draft: HistoryDraft, reason: str, identity: str) -> None:
    """Attempts begin again for every activity that waits for a person."""
    draft.add(ev.WorkflowExecutionUnpaused(reason, identity))
    draft.change(status=ExecutionStatus.RUNNING, reason="", failure=None, paused_activity=0)
    for activity_id in draft.head.activities:
        draft.again.append(activity_id)
        draft.forget_attempt(activity_id)


def _exhausted(draft: HistoryDraft, outcome: ActivityOutcome) -> None:
    head, failure = draft.head, outcome.failure
    key = draft.keys.attempt(head.workflow_id, head.run_id, outcome.activity_id)
    record = Attempt(outcome.attempt + 1, 0, failure, outcome.details)
    draft.put(Put(key, ATTEMPT.encode(record)))
    if head.status is ExecutionStatus.PAUSED:
        return
    paused = exhausted(outcome)
    draft.add(paused)
    draft.change(
        status=ExecutionStatus.PAUSED,
        reason=paused.reason,
        failure=failure,
        paused_activity=outcome.activity_id,
    )


def _closing_of(outcome: ActivityOutcome) -> ev.Attributes:
    failure, state = outcome.failure, outcome.state
    if failure is None:
        return ev.ActivityTaskCompleted(outcome.activity_id, outcome.result)
    assert state is not None, "a failure without a verdict"
    if failure.kind is FailureKind.CANCELED:
        return ev.ActivityTaskCanceled(outcome.activity_id, failure.details)
    if failure.kind is FailureKind.TIMEOUT or state is RetryState.TIMEOUT:
        is_last = failure.type in BOUNDS_OF_ALL or state is RetryState.MAXIMUM_ATTEMPTS_REACHED
        by_itself = failure.kind is FailureKind.TIMEOUT and is_last
        kind = TimeoutType(failure.type) if by_itself else TimeoutType.SCHEDULE_TO_CLOSE
        cause = outcome.last_failure if by_itself else failure
        return ev.ActivityTaskTimedOut(outcome.activity_id, kind, state, cause)
    return ev.ActivityTaskFailed(outcome.activity_id, failure, state)


def _child_news(draft: HistoryDraft, news: ChildEvent) -> None:
    children = {child.child_id: child for child in draft.head.children}
    child = children.get(news.child_id)
    if child is None or not _is_about(draft.head, child, news) or (child.run_id and news.refused):
        return
    if news.status is ExecutionStatus.RUNNING and not news.refused:
        if not child.run_id:
            children[news.child_id] = child._replace(run_id=news.run_id)
            draft.add(ev.ChildWorkflowExecutionStarted(news.child_id, news.run_id))
            draft.change(children=tuple(children.values()), due=True)
        return
    _child_over(draft, news, child)
    left = tuple(each for each in children.values() if each.child_id != news.child_id)
    draft.change(children=left, due=True)


def _is_about(head: RunHead, child: ChildRecord, news: ChildEvent) -> bool:
    """Whether news is about this very child: every run counts its children from one."""
    ours = ("", head.run_id, *head.bases)
    return news.parent_run_id in ours and news.workflow_id in ("", child.workflow_id)


def _child_over(draft: HistoryDraft, news: ChildEvent, child: ChildRecord) -> None:
    number = news.child_id
    if news.refused:
        draft.add(ev.StartChildWorkflowExecutionFailed(number, news.refused))
        return
    if not child.run_id:
        draft.add(ev.ChildWorkflowExecutionStarted(number, news.run_id))
    failure = news.failure
    match news.status:
        case ExecutionStatus.COMPLETED:
            draft.add(ev.ChildWorkflowExecutionCompleted(number, news.result))
        case ExecutionStatus.CANCELED:
            draft.add(ev.ChildWorkflowExecutionCanceled(number))
        case ExecutionStatus.TIMED_OUT:
            draft.add(ev.ChildWorkflowExecutionTimedOut(number))
        case ExecutionStatus.TERMINATED:
            draft.add(ev.ChildWorkflowExecutionTerminated(number))
        case _:
            assert failure is not None, "a child that failed says why"
            draft.add(ev.ChildWorkflowExecutionFailed(number, failure))


def _external_news(draft: HistoryDraft, news: ExternalEvent) -> None:
    if news.run_id and news.run_id != draft.head.run_id:
        return
    match news.kind, news.refused:
        case "signal", "":
            draft.add(ev.ExternalWorkflowExecutionSignaled(news.request_id))
        case "signal", why:
            draft.add(ev.SignalExternalWorkflowExecutionFailed(news.request_id, why))
        case _, "":
            draft.add(ev.ExternalWorkflowExecutionCancelRequested(news.request_id))
        case _, why:
            draft.add(ev.RequestCancelExternalWorkflowExecutionFailed(news.request_id, why))
    draft.change(due=True)

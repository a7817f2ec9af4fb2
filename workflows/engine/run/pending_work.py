"""The pending work of one execution in its worker: activities, timers and timeouts.

Ended work is reported to the execution, which writes the history.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import NamedTuple
from weakref import WeakMethod

from core.errors import UnusableValue
from core.eventstore.kv import Put, Unchanged
from core.eventstore.retry_policies import retry_unavailable
from workflows.engine.clock import Clock, Deadline, Deadlines, Instant, instant
from workflows.engine.run.received_events import ActivityOutcome
from workflows.engine.run.retries import RetryAfter, after_failure
from workflows.engine.store.draft import ExecutionStore, HistoryDraft
from workflows.engine.store.history_reader import HISTORY_REMEDY
from workflows.engine.store.records import ATTEMPT_CODEC, Attempt, RunHead
from workflows.engine.worker.activities import ActivityHost, ActivityTask, RunningActivity
from workflows.model.events import (
    ActivityTaskCancelRequested,
    ActivityTaskScheduled,
    HistoryEvent,
    WorkflowExecutionUnpaused,
)
from workflows.model.failures import Failure, FailureKind
from workflows.model.policies import RetryState, TimeoutType

OnOutcome = Callable[[ActivityOutcome], None]


class _ScheduledActivity(NamedTuple):
    """A scheduled activity; its timeouts count from ``since_ms``."""

    scheduled: ActivityTaskScheduled
    since_ms: int
    is_cancelled: bool = False


class PendingActivities:
    """The pending activities of one execution, with a weak reference to ``on_outcome``."""

    def __init__(
        self, store: ExecutionStore, fence: Unchanged, host: ActivityHost, on_outcome: OnOutcome
    ) -> None:
        self._store = store
        self._fence = fence
        self._host = host
        self._on_outcome = WeakMethod(on_outcome)
        self._running: dict[int, RunningActivity] = {}

    def stop(self) -> None:
        """Abandon all activities."""
        for running in self._running.values():
            running.abandon()
        self._running.clear()

    def apply(self, draft: HistoryDraft) -> None:
        """Start and cancel the activities of a committed draft."""
        head = draft.head
        if not head.is_open:
            self.stop()
            return
        for scheduled in draft.activities_to_start:
            if scheduled.activity_id in head.activities:
                self._start(head, scheduled, draft.now_ms, Attempt(attempt=1))
        for activity_id in draft.activities_to_cancel:
            running = self._running.get(activity_id)
            if running is not None:
                running.cancel()
            else:
                self._report_cancelled(activity_id, "the workflow was paused")

    async def restart(
        self,
        head: RunHead,
        activity_ids: Iterable[int],
        attempts: Mapping[int, Attempt],
        *,
        interrupted: bool,
    ) -> None:
        """Start scheduled activities again. Raises UnusableValue, StoreUnavailable.

        ``interrupted``: the shard's previous owner may have started an attempt, which counts.
        """
        stopped = [number for number in activity_ids if number not in self._running]
        if not stopped:
            return
        history: list[HistoryEvent] = await retry_unavailable()(self._store.history, head)
        scheduled = _scheduled_activities(history, head)
        unknown = [number for number in stopped if number not in scheduled]
        if unknown:
            key = self._store.keys.open(head.workflow_id)
            why = f"its history has no ActivityTaskScheduled event for activities {unknown}"
            raise UnusableValue("open execution", key, why, HISTORY_REMEDY)
        for number in stopped:
            activity = scheduled[number]
            if activity.is_cancelled:
                self._report_cancelled(number, "its worker was lost")
            elif interrupted:
                await self._restart_interrupted(head, activity, attempts.get(number))
            else:
                now_ms = self._store.clock.now_ms()
                self._start(head, activity.scheduled, now_ms, Attempt(attempt=1))

    async def _restart_interrupted(
        self, head: RunHead, activity: _ScheduledActivity, stored: Attempt | None
    ) -> None:
        now_ms, scheduled = self._store.clock.now_ms(), activity.scheduled
        policy = scheduled.retry_policy
        before = stored or Attempt(attempt=1)
        if policy.maximum_attempts and before.attempt > policy.maximum_attempts:
            return  # the last attempt has failed, and the execution is paused
        if before.not_before_ms > now_ms:
            self._start(head, scheduled, activity.since_ms, before, recorded=True)
            return
        failure = Failure(
            FailureKind.TIMEOUT,
            f"its worker was lost in attempt {before.attempt}",
            TimeoutType.START_TO_CLOSE,
            cause=before.last_failure,
        )
        age_s = (now_ms - activity.since_ms) / 1000
        verdict = after_failure(
            policy, scheduled.timeouts, failure, attempt=before.attempt, age_s=age_s
        )
        if not isinstance(verdict, RetryAfter):
            outcome = ActivityOutcome(
                scheduled.activity_id,
                before.attempt,
                failure=failure,
                state=verdict.state,
                recorded=stored is not None,
                pauses=policy.pauses,
            )
            self._report(outcome)
            return
        last_failure = failure._replace(cause=None)
        following = Attempt(before.attempt + 1, last_failure=last_failure, details=before.details)
        await self._store_attempt(head, scheduled.activity_id, following)
        self._start(head, scheduled, activity.since_ms, following, recorded=True)

    def _start(
        self,
        head: RunHead,
        scheduled: ActivityTaskScheduled,
        scheduled_ms: int,
        attempt: Attempt,
        *,
        recorded: bool = False,
    ) -> None:
        trace, telemetry = head.traceparent, self._host.telemetry
        if telemetry.traces:
            trace = telemetry.record_run_span(f"StartActivity:{scheduled.activity_type}", head)
        task = ActivityTask(
            head.workflow_id,
            head.run_id,
            head.workflow_type,
            scheduled,
            scheduled_ms,
            attempt,
            recorded,
            trace,
        )
        self._running[scheduled.activity_id] = self._host.start(
            task, self._note_end, partial(self._store_attempt, head)
        )

    def _note_end(self, outcome: ActivityOutcome) -> None:
        if self._running.pop(outcome.activity_id, None) is not None:
            self._report(outcome)

    def _report_cancelled(self, activity_id: int, why: str) -> None:
        """Precondition: the activity is not running."""
        failure = Failure(FailureKind.CANCELED, f"cancelled: {why}")
        state = RetryState.CANCEL_REQUESTED
        self._report(
            ActivityOutcome(activity_id, attempt=1, failure=failure, state=state, recorded=True)
        )

    def _report(self, outcome: ActivityOutcome) -> None:
        on_outcome = self._on_outcome()
        if on_outcome is not None:
            on_outcome(outcome)

    async def _store_attempt(self, head: RunHead, activity_id: int, attempt: Attempt) -> None:
        key = self._store.keys.attempt(head.workflow_id, head.run_id, activity_id)
        await self._store.committer.propose(
            [self._fence], [Put(key, ATTEMPT_CODEC.encode(attempt))]
        )


def _scheduled_activities(
    history: Iterable[HistoryEvent], head: RunHead
) -> dict[int, _ScheduledActivity]:
    """The timeouts count again from a resumption or a reset of the run."""
    scheduled: dict[int, _ScheduledActivity] = {}
    for event in history:
        match event.attributes:
            case ActivityTaskScheduled(number) as activity:
                scheduled[number] = _ScheduledActivity(
                    activity, max(event.event_time_ms, head.started_ms)
                )
            case ActivityTaskCancelRequested(number):
                if number in scheduled:
                    scheduled[number] = scheduled[number]._replace(is_cancelled=True)
            case WorkflowExecutionUnpaused():
                at_ms = event.event_time_ms
                scheduled = {
                    number: activity._replace(since_ms=at_ms)
                    for number, activity in scheduled.items()
                }
    return scheduled


OnDue = Callable[[str, int], None]
"""Called with a run id and a number: a timer's id, or minus the Unix milliseconds of a timeout."""


class RunTimers:
    """The timers and timeouts of one execution, with a weak reference to ``on_due``."""

    def __init__(self, clock: Clock, deadlines: Deadlines, on_due: OnDue) -> None:
        self._clock = clock
        self._deadlines = deadlines
        self._on_due = WeakMethod(on_due)
        self._armed: dict[int, Deadline] = {}

    def stop(self) -> None:
        """Cancel all deadlines."""
        for deadline in self._armed.values():
            deadline.cancel()
        self._armed.clear()

    def arm(self, head: RunHead, since: Instant | None = None) -> None:
        """Set a deadline for every timer and timeout of an open run, and cancel other deadlines.

        ``since``: when the head was written (default: now). The steady clock measures from then.
        """
        has_no_timer = not (head.timers or head.run_deadline_ms or head.execution_deadline_ms)
        if not head.is_open or (has_no_timer and not self._armed):
            return
        wall_ms, steady_s = since or instant(self._clock)
        now_ms = max(wall_ms, head.last_ms)
        elapsed_s = self._clock.monotonic() - steady_s
        due_ms = {timer.timer_id: timer.fire_ms for timer in head.timers}
        for at_ms in (head.run_deadline_ms, head.execution_deadline_ms):
            if at_ms:
                due_ms[-at_ms] = at_ms
        for number in self._armed.keys() - due_ms.keys():
            self._armed.pop(number).cancel()
        for number, at_ms in due_ms.items():
            if number not in self._armed:
                wait_s = (at_ms - now_ms) / 1000 - elapsed_s
                fire = partial(_fire, self._on_due, head.run_id, number)
                self._armed[number] = self._deadlines.after(wait_s, fire)


def _fire(on_due: WeakMethod[OnDue], run_id: str, number: int) -> None:
    call = on_due()
    if call is not None:
        call(run_id, number)

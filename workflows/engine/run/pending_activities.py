"""What goes on beside a run's code: its activities at work and the alarms of its timers.

Outcomes and due timers are reported to the execution; nothing here writes histories.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple, Protocol

from core.errors import UnusableValue
from core.eventstore.kv import Put, Unchanged
from core.eventstore.retry_policies import waiting_for_store
from workflows.engine.clock import Instant, instant
from workflows.engine.run.received_events import ActivityOutcome
from workflows.engine.run.retries import RetryAfter, after_failure
from workflows.engine.store.draft import HistoryDraft
from workflows.engine.store.history_reader import HISTORY_REMEDY, read_whole_history
from workflows.engine.store.records import ATTEMPT, Attempt, RunHead
from workflows.engine.worker.activities import Running
from workflows.engine.worker.deadlines import Deadline
from workflows.engine.worker.interpreter_cache import WorkerContext
from workflows.engine.worker.job import Job
from workflows.model.events import (
    ActivityTaskCancelRequested,
    ActivityTaskScheduled,
    HistoryEvent,
    WorkflowExecutionUnpaused,
)
from workflows.model.failures import Failure, FailureKind
from workflows.model.policies import RetryState, TimeoutType


class HousekeepingTarget(Protocol):
    """The execution."""

    head: RunHead

    def report(self, outcome: ActivityOutcome) -> None:
        """An activity came to an end."""
        ...

    def ring(self, run_id: str, number: int) -> None:
        """A timer of that run is due; a negative number is a deadline of the run."""
        ...


class _Asked(NamedTuple):
    """An activity that a run has asked for; ``since_ms``: from then on its time is counted."""

    scheduled: ActivityTaskScheduled
    since_ms: int
    is_taken_back: bool = False


class Housekeeping:
    """Of one execution, from run to run.

    The execution owns it and is only referred to: it stops its chores before it goes.
    """

    def __init__(self, desk: WorkerContext, fence: Unchanged, listener: HousekeepingTarget) -> None:
        self._desk = desk
        self._fence = fence
        self._listener: HousekeepingTarget = weakref.proxy(listener)
        self._running: dict[int, Running] = {}
        self._armed: dict[int, Deadline] = {}

    def stop(self) -> None:
        """Leave everything: the run is closed, or somebody else's."""
        for running in self._running.values():
            running.abandon()
        self._running.clear()
        for alarm in self._armed.values():
            alarm.cancel()
        self._armed.clear()

    def follow(self, draft: HistoryDraft) -> None:
        """Do what a committed draft asks for."""
        head = draft.head
        if not head.is_open:
            self.stop()
            return
        for scheduled in draft.launch:
            if scheduled.activity_id in head.activities:
                self._launch(scheduled, draft.now_ms, Attempt(1))
        for activity_id in draft.stop:
            self._cancel(activity_id)

    def arm(self, head: RunHead, since: Instant | None = None) -> None:
        """Set an alarm for every timer and deadline that has none, and take back all others.

        ``since``: when the head was made, by default now. What is left is counted from the run's
        own time then and by the steady clock from there on: a wall clock that is set meanwhile
        makes no timer longer or shorter than it is.
        """
        if not head.is_open:
            return
        clock = self._desk.clock
        wall_ms, steady_s = since or instant(clock)
        now_ms = max(wall_ms, head.last_ms)
        gone_s = clock.monotonic() - steady_s
        due = {timer.timer_id: timer.fire_ms for timer in head.timers}
        for at_ms in (head.run_deadline_ms, head.execution_deadline_ms):
            if at_ms:
                due[-at_ms] = at_ms
        for number in self._armed.keys() - due.keys():
            self._armed.pop(number).cancel()
        for number, at_ms in due.items():
            if number not in self._armed:
                ring = self._alarm(head.run_id, number)
                wait_s = (at_ms - now_ms) / 1000 - gone_s
                self._armed[number] = self._desk.alarms.after(wait_s, ring)

    async def relaunch(
        self,
        activity_ids: Iterable[int],
        attempts: Mapping[int, Attempt],
        *,
        interrupted: bool,
    ) -> None:
        """Begin again with activities whose attributes lie in the history.

        ``interrupted``: an owner before us may have died in the middle of an attempt, which counts.
        Raises UnusableValue, StoreUnavailable.
        """
        head, desk = self._listener.head, self._desk
        wanted = [each for each in activity_ids if each not in self._running]
        if not wanted:
            return
        history: list[HistoryEvent] = await waiting_for_store()(
            read_whole_history, desk.store, desk.keys, head
        )
        asked = _asked_for(history, head)
        unknown = [number for number in wanted if number not in asked]
        if unknown:
            key = desk.keys.open(head.workflow_id)
            why = f"its history does not schedule the activities {unknown}"
            raise UnusableValue("open execution", key, why, HISTORY_REMEDY)
        for number in wanted:
            scheduled, since_ms, is_taken_back = asked[number]
            if is_taken_back:
                self._report_cancelled(number, "its worker was lost")
            elif interrupted:
                await self._after_interruption(scheduled, since_ms, attempts.get(number))
            else:
                self._launch(scheduled, desk.clock.now_ms(), Attempt(1))

    async def _after_interruption(
        self, scheduled: ActivityTaskScheduled, since_ms: int, stored: Attempt | None
    ) -> None:
        now_ms = self._desk.clock.now_ms()
        before = stored or Attempt(1)
        maximum = scheduled.retry_policy.maximum_attempts
        if maximum and before.attempt > maximum:
            return  # it had failed for the last time: it waits for a human
        if before.not_before_ms > now_ms:
            self._launch(scheduled, since_ms, before, recorded=True)
            return
        failure = Failure(
            FailureKind.TIMEOUT,
            f"its worker was lost in attempt {before.attempt}",
            TimeoutType.START_TO_CLOSE,
            cause=before.last_failure,
        )
        age_s = (now_ms - since_ms) / 1000
        verdict = after_failure(
            scheduled.retry_policy,
            scheduled.timeouts,
            failure,
            attempt=before.attempt,
            age_s=age_s,
        )
        number = scheduled.activity_id
        if not isinstance(verdict, RetryAfter):
            outcome = ActivityOutcome(
                number,
                before.attempt,
                failure=failure,
                state=verdict.state,
                recorded=stored is not None,
                pauses=scheduled.retry_policy.pauses,
            )
            self._listener.report(outcome)
            return
        again = Attempt(before.attempt + 1, 0, failure._replace(cause=None), before.details)
        await self._store(number, again)
        self._launch(scheduled, since_ms, again, recorded=True)

    def _launch(
        self,
        scheduled: ActivityTaskScheduled,
        scheduled_ms: int,
        attempt: Attempt,
        *,
        recorded: bool = False,
    ) -> None:
        head, desk = self._listener.head, self._desk
        name = f"StartActivity:{scheduled.activity_type}"
        trace = desk.telemetry.moment(name, head.traceparent, {"workflow.id": head.workflow_id})
        job = Job(
            head.workflow_id,
            head.run_id,
            head.workflow_type,
            scheduled,
            scheduled_ms,
            attempt,
            recorded,
            trace,
        )
        self._running[scheduled.activity_id] = desk.activities.start(job, self._report, self._store)

    def _report(self, outcome: ActivityOutcome) -> None:
        if self._running.pop(outcome.activity_id, None) is not None:
            self._listener.report(outcome)

    def _cancel(self, activity_id: int) -> None:
        running = self._running.get(activity_id)
        if running is not None:
            running.cancel()
            return
        self._report_cancelled(activity_id, "it waited for a human")

    def _report_cancelled(self, activity_id: int, why: str) -> None:
        failure = Failure(FailureKind.CANCELED, f"cancelled: {why}")
        state = RetryState.CANCEL_REQUESTED
        self._listener.report(
            ActivityOutcome(activity_id, 1, failure=failure, state=state, recorded=True)
        )

    async def _store(self, activity_id: int, attempt: Attempt) -> None:
        head, desk = self._listener.head, self._desk
        key = desk.keys.attempt(head.workflow_id, head.run_id, activity_id)
        await desk.committer.propose([self._fence], [Put(key, ATTEMPT.encode(attempt))])

    def _alarm(self, run_id: str, number: int) -> Callable[[], None]:
        return lambda: self._listener.ring(run_id, number)


def _asked_for(history: Iterable[HistoryEvent], head: RunHead) -> dict[int, _Asked]:
    """The activities of a run.

    A human who lets a run go on, or resets it, gives all of them their time anew.
    """
    found: dict[int, _Asked] = {}
    for event in history:
        match event.attributes:
            case ActivityTaskScheduled(number) as scheduled:
                found[number] = _Asked(scheduled, max(event.event_time_ms, head.started_ms))
            case ActivityTaskCancelRequested(number):
                if number in found:
                    found[number] = found[number]._replace(is_taken_back=True)
            case WorkflowExecutionUnpaused():
                at_ms = event.event_time_ms
                found = {number: one._replace(since_ms=at_ms) for number, one in found.items()}
    return found

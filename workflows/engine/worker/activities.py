"""Attempts of activities: slots, the four timeouts, heartbeats, retries and cancellation.

The history does not record attempts: an ``Attempt`` is stored before each retry.
If a worker dies before it commits the outcome, the activity runs again, but only one outcome is
recorded.
"""

from __future__ import annotations

import asyncio
import inspect
import math
from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial
from operator import itemgetter
from typing import Any, NamedTuple

from core.errors import OrbweaverError
from workflows.api import activity as api
from workflows.api.definitions import ActivityDefinition, Registry
from workflows.api.interceptors import ActivityInbound, ExecuteActivityInput
from workflows.engine.clock import Clock
from workflows.engine.run.received_events import ActivityOutcome
from workflows.engine.run.retries import RetryAfter, after_failure
from workflows.engine.store.records import Attempt
from workflows.engine.telemetry import Telemetry
from workflows.engine.telemetry_interceptors import ActivityTelemetry
from workflows.engine.worker.threads import ACTIVITY_THREADS_MAX, run_in_thread
from workflows.model.errors import CancelledError, LimitExceeded, PayloadError
from workflows.model.events import ActivityTaskScheduled
from workflows.model.failures import Failure, FailureKind, failure_of
from workflows.model.payloads import Payload, to_payload
from workflows.model.policies import TimeoutType


class Slots:
    """A number of slots, and the callers that wait for one."""

    def __init__(self, count: int) -> None:
        self._free_count = count
        self._queue: deque[asyncio.Event] = deque()

    def take(self, wake: asyncio.Event) -> bool:
        """Take a slot. If no slot is free, return False, and set ``wake`` when one becomes free."""
        if self._free_count and (not self._queue or self._queue[0] is wake):
            self._free_count -= 1
            self.leave(wake)
            return True
        if wake not in self._queue:
            self._queue.append(wake)
        return False

    def leave(self, wake: asyncio.Event) -> None:
        """Stop waiting for a slot."""
        if wake in self._queue:
            self._queue.remove(wake)
        self._wake_next()

    def release(self) -> None:
        """Return a slot."""
        self._free_count += 1
        self._wake_next()

    def _wake_next(self) -> None:
        if self._free_count and self._queue:
            self._queue[0].set()


ACTIVITY_SLOTS = 100
"""Concurrent attempts of async activities in one worker."""

HEARTBEAT_SHARE = 0.8
"""The least time between two writes of heartbeat details, as a share of the heartbeat timeout."""

HEARTBEAT_STORE_S = 30.0
"""Seconds between two writes of heartbeat details if there is no heartbeat timeout."""

STOP_S_MAX = 5.0
"""Seconds that an attempt may take to stop after a timeout, before it is abandoned."""

Report = Callable[[ActivityOutcome], None]
StoreAttempt = Callable[[int, Attempt], Awaitable[None]]
Timeout = tuple[TimeoutType, float]
"""A timeout, and the time of the monotonic clock at which it is reached."""


class ActivityTask(NamedTuple):
    """One activity of a run, with its next attempt.

    ``recorded``: whether ``attempt`` is stored.
    """

    workflow_id: str
    run_id: str
    workflow_type: str
    scheduled: ActivityTaskScheduled
    scheduled_ms: int
    attempt: Attempt
    recorded: bool = False
    traceparent: str = ""


class RunningActivity:
    """One running activity."""

    def __init__(
        self, host: ActivityHost, task: ActivityTask, report: Report, store: StoreAttempt
    ) -> None:
        self._activity = task
        self.state = task.attempt
        self.recorded = task.recorded
        self.wake = asyncio.Event()
        self._cancelled = False
        self.beat_at = 0.0
        self._host = host
        self._report = report
        self._store = store
        self._stored_at = 0.0
        self._storing: asyncio.Task[None] | None = None
        self._inner: asyncio.Task[Payload] | None = None
        self._is_in_thread = False
        self._loop = asyncio.get_running_loop()
        clock = host.clock
        self._age_at_start_s = max(clock.now_ms() - task.scheduled_ms, 0) / 1000
        self._started_at = clock.monotonic()
        self.task = self._loop.create_task(self._run())

    def cancelled(self) -> bool:
        """Whether the activity was cancelled or abandoned."""
        return self._cancelled

    def cancel(self) -> None:
        """Cancel the attempt; the outcome may still be a result.

        In a plain (not async) function, the next heartbeat raises CancelledError.
        """
        self._cancelled = True
        self.wake.set()
        if self._inner is not None and not self._is_in_thread:
            self._inner.cancel()

    def abandon(self) -> None:
        """Stop without an outcome: the run is closed, or has another owner."""
        self._cancelled = True
        for task in (self._inner, self.task, self._storing):
            if task is not None:
                task.cancel()

    def heartbeat(self, details: tuple[object, ...]) -> None:
        """Record a heartbeat. If this attempt fails, the next attempt gets ``details``."""
        now = self._host.clock.monotonic()
        self.beat_at = now
        payloads = _detail_payloads(details)
        timeout_s = self._activity.scheduled.timeouts.heartbeat_s
        every_s = timeout_s * HEARTBEAT_SHARE if timeout_s else HEARTBEAT_STORE_S
        self.state = self.state._replace(details=payloads)
        is_due = not self._stored_at or now - self._stored_at >= every_s
        if is_due and payloads and (self._storing is None or self._storing.done()):
            self._stored_at = now
            self._storing = asyncio.ensure_future(self._store_state())

    async def _store_state(self) -> None:
        try:
            await self._store(self._activity.scheduled.activity_id, self.state)
            self.recorded = True
        except OrbweaverError:
            return  # the session has ended

    async def _run(self) -> None:
        outcome = await self._until_closed()
        self._cancelled = True  # the heartbeat of an abandoned thread raises CancelledError
        if self._storing is not None:
            await self._storing  # the attempt must be stored before the outcome deletes it
            outcome = outcome._replace(recorded=self.recorded)
        self._report(outcome)

    async def _until_closed(self) -> ActivityOutcome:
        host, task = self._host, self._activity
        await self._pause((self.state.not_before_ms - host.clock.now_ms()) / 1000)
        while True:
            if self.cancelled():
                return self._outcome(failure=_cancelled())
            failure, result = await self._in_slot()
            if failure is None:
                return self._outcome(result=result)
            if self.cancelled() and failure.kind is not FailureKind.TIMEOUT:
                return self._outcome(failure=failure)
            verdict = after_failure(
                task.scheduled.retry_policy,
                task.scheduled.timeouts,
                failure,
                attempt=self.state.attempt,
                age_s=self.age_s(),
            )
            host.telemetry.count_activity_failure(task.workflow_type, task.scheduled.activity_type)
            if not isinstance(verdict, RetryAfter):
                return self._outcome(failure=failure)
            not_before = host.clock.now_ms() + round(verdict.pause_s * 1000)
            attempt = self.state.attempt + 1
            self.state = Attempt(attempt, not_before, failure, self.state.details)
            await self._store_state()
            await self._pause(verdict.pause_s)

    def _outcome(
        self, *, result: Payload = None, failure: Failure | None = None
    ) -> ActivityOutcome:
        task, state = self._activity, self.state
        retry_state = None
        if failure is not None:
            # A cancelled activity is not retried.
            verdict = after_failure(
                task.scheduled.retry_policy,
                task.scheduled.timeouts,
                failure._replace(non_retryable=True) if self.cancelled() else failure,
                attempt=state.attempt,
                age_s=self.age_s(),
            )
            assert not isinstance(verdict, RetryAfter), "expected no further attempt"
            retry_state = verdict.state
        return ActivityOutcome(
            task.scheduled.activity_id,
            state.attempt,
            result,
            failure,
            retry_state,
            state.last_failure,
            state.details,
            self.recorded,
            task.scheduled.retry_policy.pauses,
        )

    def age_s(self) -> float:
        """Seconds since the activity was scheduled."""
        return self._age_at_start_s + self._host.clock.monotonic() - self._started_at

    async def _pause(self, seconds: float) -> None:
        if seconds > 0 and not self.cancelled():
            self.wake.clear()
            await self._host.clock.wait(self.wake, seconds)

    async def _in_slot(self) -> tuple[Failure | None, Payload]:
        """Run one attempt when a slot is free. Returns its failure or its result."""
        host = self._host
        slots = host.slots_for(self._activity.scheduled.activity_type)
        failure = await self._take_slot(slots)
        if failure is not None:
            return failure, None
        self._is_in_thread = False
        try:
            return await self._attempt()
        finally:
            if not self._is_in_thread:  # a thread keeps its slot until the thread ends
                slots.release()

    async def _take_slot(self, slots: Slots) -> Failure | None:
        """Wait for a slot. Returns the failure if a timeout or cancellation comes first."""
        if slots.take(self.wake):
            return None
        host, timeouts = self._host, self._activity.scheduled.timeouts
        started = host.clock.monotonic()
        queue_s = timeouts.schedule_to_start_s or math.inf
        kind, at = min(
            (TimeoutType.SCHEDULE_TO_START, started + queue_s),
            self._schedule_to_close(started),
            key=itemgetter(1),
        )
        try:
            while not slots.take(self.wake):
                now = host.clock.monotonic()
                if now >= at:
                    return _timed_out(kind)
                await host.clock.wait(self.wake, at - now)
                self.wake.clear()
                if self.cancelled():
                    return _cancelled()
            return None
        finally:
            slots.leave(self.wake)

    async def _attempt(self) -> tuple[Failure | None, Payload]:
        clock = self._host.clock
        self.wake.clear()
        self.beat_at = started = clock.monotonic()
        inner = self._loop.create_task(self._call())
        self._inner = inner
        self._host.attempt_tasks.add(inner)
        inner.add_done_callback(self._host.attempt_tasks.discard)
        try:
            await asyncio.sleep(0)  # an activity that returns immediately needs no timer
            if not inner.done():
                inner.add_done_callback(lambda _: self.wake.set())
                scheduled = self._activity.scheduled.timeouts
                close_s = scheduled.start_to_close_s or math.inf
                heartbeat_s = scheduled.heartbeat_s or math.inf
                timeouts = [
                    (TimeoutType.START_TO_CLOSE, started + close_s),
                    self._schedule_to_close(clock.monotonic()),
                ]
                while not inner.done():
                    now = clock.monotonic()
                    heartbeat = (TimeoutType.HEARTBEAT, self.beat_at + heartbeat_s)
                    kind, at = min(*timeouts, heartbeat, key=itemgetter(1))
                    if now >= at:
                        inner.cancel(kind.value)
                        await asyncio.wait({inner}, timeout=STOP_S_MAX)
                        return _timed_out(kind), None
                    await clock.wait(self.wake, at - now)
                    if not inner.done():
                        self.wake.clear()
            if inner.cancelled():
                return _cancelled() if self.cancelled() else _cancelled_itself(), None
            return None, inner.result()
        except asyncio.CancelledError:
            raise  # ``abandon`` cancelled this task
        except BaseException as error:  # noqa: BLE001 - every exception of an activity is its failure
            return _attempt_failure(error), None
        finally:
            self._inner = None

    def _schedule_to_close(self, now: float) -> Timeout:
        timeout_s = self._activity.scheduled.timeouts.schedule_to_close_s or math.inf
        return TimeoutType.SCHEDULE_TO_CLOSE, now + timeout_s - self.age_s()

    async def _call(self) -> Payload:
        name = self._activity.scheduled.activity_type
        definition = self._host.registry.activities.get(name)
        if definition is None:
            raise LookupError(f"activity {name} is not registered with this worker")
        api.enter(self._info(), partial(self._beat, self.state.attempt))
        function = definition.handler.function
        if definition.is_plain:
            function = partial(self._in_thread, definition)
        result = await self._host.inbound.execute_activity(
            ExecuteActivityInput(
                name,
                function,
                definition.handler.arguments(self._activity.scheduled.args),
                self._activity.traceparent,
            )
        )
        return to_payload(result, what=f"the result of activity {name}")

    async def _in_thread(self, definition: ActivityDefinition, *arguments: Any) -> object:  # noqa: ANN401 - the activity's type
        slots = self._host.threads
        self._is_in_thread = True
        name, function = definition.name, definition.handler.function
        result = await run_in_thread(function, list(arguments), name=name, ended=slots.release)
        return await result if inspect.isawaitable(result) else result

    def _beat(self, attempt: int, *details: object) -> None:
        """Record a heartbeat from the event loop or from a thread. Raises CancelledError."""
        if self.cancelled() or attempt != self.state.attempt:
            raise CancelledError("the attempt was cancelled or replaced by another one")
        if self._is_in_thread:
            payloads = _detail_payloads(details)
            self._loop.call_soon_threadsafe(self._beat_in_loop, attempt, payloads)
        else:
            self.heartbeat(details)

    def _beat_in_loop(self, attempt: int, details: tuple[Payload, ...]) -> None:
        if not self.cancelled() and attempt == self.state.attempt:
            self.heartbeat(details)

    def _info(self) -> api.ActivityInfo:
        task, state, scheduled = self._activity, self.state, self._activity.scheduled
        return api.ActivityInfo(
            scheduled.activity_id,
            scheduled.activity_type,
            task.workflow_type,
            task.workflow_id,
            task.run_id,
            state.attempt,
            state.details,
        )


class _CallFunction(ActivityInbound):
    """The innermost interceptor of attempts."""

    def __init__(self) -> None:
        """There is no inner interceptor."""

    async def execute_activity(self, attempt: ExecuteActivityInput) -> Any:  # noqa: ANN401 - the activity's type
        outcome = attempt.function(*attempt.args)
        return await outcome if inspect.isawaitable(outcome) else outcome


class ActivityHost:
    """Runs the activities of one worker.

    The task of an activity starts one task for each attempt.
    """

    def __init__(
        self,
        registry: Registry,
        clock: Clock,
        telemetry: Telemetry,
        *,
        slots: int = ACTIVITY_SLOTS,
        threads: int = ACTIVITY_THREADS_MAX,
    ) -> None:
        self.registry = registry
        self.clock = clock
        self.telemetry = telemetry
        self.inbound: ActivityInbound = _CallFunction()
        for interceptor in reversed([ActivityTelemetry(telemetry), *registry.interceptors]):
            self.inbound = interceptor.intercept_activity(self.inbound)
        self.slots = Slots(slots)
        self.threads = Slots(threads)
        self.attempt_tasks: set[asyncio.Task[Payload]] = set()
        self.activity_tasks: set[asyncio.Task[None]] = set()

    async def idle(self) -> None:
        """Return when no attempt is running."""
        while self.attempt_tasks:
            await asyncio.wait(self.attempt_tasks)

    def slots_for(self, activity_type: str) -> Slots:
        """The slots of an activity type: ``threads`` for plain activities, ``slots`` for async."""
        definition = self.registry.activities.get(activity_type)
        return self.threads if definition is not None and definition.is_plain else self.slots

    def start(self, task: ActivityTask, report: Report, store: StoreAttempt) -> RunningActivity:
        """Start an activity at its next attempt."""
        running = RunningActivity(self, task, report, store)
        self.activity_tasks.add(running.task)
        running.task.add_done_callback(self.activity_tasks.discard)
        return running


def _detail_payloads(details: tuple[object, ...]) -> tuple[Payload, ...]:
    return tuple(to_payload(detail, what="heartbeat details") for detail in details)


def _attempt_failure(error: BaseException) -> Failure:
    failure = failure_of(error)
    if isinstance(error, PayloadError | LimitExceeded):
        return failure._replace(non_retryable=True)  # the same value would fail again
    return failure


def _cancelled() -> Failure:
    return Failure(FailureKind.CANCELED, "the activity was cancelled")


def _cancelled_itself() -> Failure:
    why = "the activity raised CancelledError without a cancel request"
    return Failure(FailureKind.APPLICATION, why, asyncio.CancelledError.__name__)


def _timed_out(kind: TimeoutType) -> Failure:
    return Failure(FailureKind.TIMEOUT, f"the {kind.value} timeout was reached", kind.value)

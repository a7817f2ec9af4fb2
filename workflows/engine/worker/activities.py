"""Attempts of activities: slots, the four timeouts, heartbeats, pauses and cancellation.

An activity runs in the process that owns its execution. Attempts leave no trace in the history:
between two of them an ``Attempt`` is stored, and the first needs none. An attempt may be made
twice (its worker died after it did its work), never recorded twice.
This module never decides what an outcome means for the execution.
"""

from __future__ import annotations

import asyncio
import inspect
import math
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from core.errors import OrbweaverError
from workflows.api import activity as api
from workflows.api.definitions import ActivityDefinition, Registry
from workflows.engine.clock import Clock
from workflows.engine.run.received_events import ActivityOutcome
from workflows.engine.run.retries import RetryAfter, after_failure
from workflows.engine.store.records import Attempt
from workflows.engine.telemetry import Telemetry
from workflows.engine.worker.job import Job
from workflows.engine.worker.slots import Slots
from workflows.engine.worker.threads import ACTIVITY_THREADS_MAX, run_in_thread
from workflows.model.errors import CancelledError, LimitExceeded, PayloadError
from workflows.model.failures import Failure, FailureKind, failure_of
from workflows.model.payloads import Payload, to_payload
from workflows.model.policies import TimeoutType

SLOTS = 100
"""Attempts that one worker runs at once."""

HEARTBEAT_SHARE = 0.8
"""Of the heartbeat timeout: how often progress is stored at most."""

HEARTBEAT_STORE_S = 30.0
"""The same without a heartbeat timeout."""

STOP_S_MAX = 5.0
"""How long an attempt may take to stop before it is left to itself."""

Report = Callable[[ActivityOutcome], None]
Store = Callable[[int, Attempt], Awaitable[None]]
Moment = tuple[TimeoutType, float]
"""A bound, and when it is reached by the steady clock."""


class Running:
    """One activity at work. ``cancel`` asks it to stop, ``abandon`` forgets it."""

    def __init__(self, host: ActivityHost, job: Job, report: Report, store: Store) -> None:
        self.job = job
        self.state = job.attempt
        self.recorded = job.recorded
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
        self._age_s = max(clock.now_ms() - job.scheduled_ms, 0) / 1000
        self._since = clock.monotonic()
        self.task = asyncio.ensure_future(self._run())

    def cancelled(self) -> bool:
        """Whether nobody wants it any more."""
        return self._cancelled

    def cancel(self) -> None:
        """Ask it to stop; its outcome tells what it made of that.

        A plain function hears of it at its next heartbeat, or ends by itself.
        """
        self._cancelled = True
        self.wake.set()
        if self._inner is not None and not self._is_in_thread:
            self._inner.cancel()

    def abandon(self) -> None:
        """The run is closed or somebody else's: stop, and tell nobody."""
        self._cancelled = True
        for task in (self._inner, self.task, self._storing):
            if task is not None:
                task.cancel()

    def heartbeat(self, details: tuple[object, ...]) -> None:
        """The attempt is alive; ``details`` reach the next attempt if this one fails."""
        now = self._host.clock.monotonic()
        self.beat_at = now
        said = tuple(to_payload(each, what="heartbeat details") for each in details)
        timeout_s = self.job.scheduled.timeouts.heartbeat_s
        every_s = timeout_s * HEARTBEAT_SHARE if timeout_s else HEARTBEAT_STORE_S
        self.state = self.state._replace(details=said)
        is_due = not self._stored_at or now - self._stored_at >= every_s
        if is_due and said and (self._storing is None or self._storing.done()):
            self._stored_at = now
            self._storing = asyncio.ensure_future(self._keep())

    async def _keep(self) -> None:
        try:
            await self._store(self.job.scheduled.activity_id, self.state)
            self.recorded = True
        except OrbweaverError:
            return  # the session is over, and with it this attempt

    async def _run(self) -> None:
        outcome = await self._until_closed()
        self._cancelled = True  # an attempt that was left to itself hears so from its heartbeat
        if self._storing is not None:
            await self._storing  # its record must be there before the outcome takes it away
            outcome = outcome._replace(recorded=self.recorded)
        self._report(outcome)

    async def _until_closed(self) -> ActivityOutcome:
        host, job = self._host, self.job
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
                job.scheduled.retry_policy,
                job.scheduled.timeouts,
                failure,
                attempt=self.state.attempt,
                age_s=self.age_s(),
            )
            host.telemetry.activity_failed(job.workflow_type, job.scheduled.activity_type)
            if not isinstance(verdict, RetryAfter):
                return self._outcome(failure=failure)
            not_before = host.clock.now_ms() + round(verdict.pause_s * 1000)
            attempt = self.state.attempt + 1
            self.state = Attempt(attempt, not_before, failure, self.state.details)
            await self._keep()
            await self._pause(verdict.pause_s)

    def _outcome(
        self, *, result: Payload = None, failure: Failure | None = None
    ) -> ActivityOutcome:
        job, state = self.job, self.state
        verdict = None
        if failure is not None:
            decided = after_failure(
                job.scheduled.retry_policy,
                job.scheduled.timeouts,
                failure._replace(non_retryable=True) if self.cancelled() else failure,
                attempt=state.attempt,
                age_s=self.age_s(),
            )
            assert not isinstance(decided, RetryAfter), "there would be another attempt"
            verdict = decided.state
        return ActivityOutcome(
            job.scheduled.activity_id,
            state.attempt,
            result,
            failure,
            verdict,
            state.last_failure,
            state.details,
            self.recorded,
            job.scheduled.retry_policy.pauses,
        )

    def age_s(self) -> float:
        """Since it was scheduled, by the steady clock as far as this process can tell."""
        return self._age_s + self._host.clock.monotonic() - self._since

    async def _pause(self, seconds: float) -> None:
        if seconds > 0 and not self.cancelled():
            self.wake.clear()
            await self._host.clock.wait(self.wake, seconds)

    async def _in_slot(self) -> tuple[Failure | None, Payload]:
        """One attempt, once there is a slot."""
        host = self._host
        slots = host.slots_for(self.job.scheduled.activity_type)
        failure = await self._take_slot(slots)
        if failure is not None:
            return failure, None
        self._is_in_thread = False
        try:
            with host.telemetry.run_activity(self.job, self.state.attempt):
                return await self._attempt()
        finally:
            if not self._is_in_thread:  # a thread has the slot as long as it runs
                slots.give_back()

    async def _take_slot(self, slots: Slots) -> Failure | None:
        """Wait for a slot; the wait has bounds of its own, and can be cancelled."""
        host, timeouts = self._host, self.job.scheduled.timeouts
        asked = host.clock.monotonic()
        queue_s = timeouts.schedule_to_start_s or math.inf
        kind, at = min(
            (TimeoutType.SCHEDULE_TO_START, asked + queue_s),
            self._schedule_to_close(asked),
            key=_moment,
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
        inner = asyncio.ensure_future(self._call())
        self._inner = inner
        self._host.at_work.add(inner)
        inner.add_done_callback(self._host.at_work.discard)
        close_s = self.job.scheduled.timeouts.start_to_close_s or math.inf
        bounds = [
            (TimeoutType.START_TO_CLOSE, started + close_s),
            self._schedule_to_close(started),
        ]
        silence_s = self.job.scheduled.timeouts.heartbeat_s or math.inf
        try:
            await asyncio.sleep(0)  # one that ends at once needs no timer
            if not inner.done():
                inner.add_done_callback(lambda _: self.wake.set())
            while not inner.done():
                now = clock.monotonic()
                silent = (TimeoutType.HEARTBEAT, self.beat_at + silence_s)
                kind, at = min(*bounds, silent, key=_moment)
                if now >= at:
                    inner.cancel()
                    await asyncio.wait({inner}, timeout=STOP_S_MAX)
                    return _timed_out(kind), None
                await clock.wait(self.wake, at - now)
                if not inner.done():
                    self.wake.clear()
            if inner.cancelled():
                return _cancelled() if self.cancelled() else _cancelled_itself(), None
            return None, inner.result()
        except asyncio.CancelledError:
            raise  # nobody wants to know any more: ``abandon``
        except BaseException as error:  # noqa: BLE001 - whatever it raises is its failure
            return _failure_of(error), None
        finally:
            self._inner = None

    def _schedule_to_close(self, now: float) -> Moment:
        bound_s = self.job.scheduled.timeouts.schedule_to_close_s or math.inf
        return TimeoutType.SCHEDULE_TO_CLOSE, now + bound_s - self.age_s()

    async def _call(self) -> Payload:
        name = self.job.scheduled.activity_type
        definition = self._host.registry.activities.get(name)
        if definition is None:
            raise LookupError(f"no activity {name} is registered with this worker")
        api.enter(self._info(), partial(self._beat, self.state.attempt))
        arguments = definition.handler.arguments(self.job.scheduled.args)
        result: Any
        if definition.is_plain:
            result = await self._in_thread(definition, arguments)
        else:
            result = definition.handler.function(*arguments)
        if inspect.isawaitable(result):
            result = await result
        return to_payload(result, what=f"the result of activity {name}")

    async def _in_thread(self, definition: ActivityDefinition, arguments: list[Any]) -> object:
        slots = self._host.threads
        self._is_in_thread = True
        name, function = definition.name, definition.handler.function
        return await run_in_thread(function, arguments, name=name, ended=slots.give_back)

    def _beat(self, attempt: int, *details: object) -> None:
        """The heartbeat of an attempt, from the event loop or from its thread."""
        if self.cancelled() or attempt != self.state.attempt:
            raise CancelledError("the run does not want this attempt any more")
        if self._is_in_thread:
            said = tuple(to_payload(each, what="heartbeat details") for each in details)
            self._loop.call_soon_threadsafe(self._beat_later, attempt, said)
        else:
            self.heartbeat(details)

    def _beat_later(self, attempt: int, details: tuple[Payload, ...]) -> None:
        if not self.cancelled() and attempt == self.state.attempt:
            self.heartbeat(details)

    def _info(self) -> api.ActivityInfo:
        job, state, scheduled = self.job, self.state, self.job.scheduled
        return api.ActivityInfo(
            scheduled.activity_id,
            scheduled.activity_type,
            job.workflow_type,
            job.workflow_id,
            job.run_id,
            state.attempt,
            state.details,
        )


class ActivityHost:
    """Runs the activities of one worker."""

    def __init__(
        self,
        registry: Registry,
        clock: Clock,
        telemetry: Telemetry,
        *,
        slots: int = SLOTS,
        threads: int = ACTIVITY_THREADS_MAX,
    ) -> None:
        self.registry = registry
        self.clock = clock
        self.telemetry = telemetry
        self.slots = Slots(slots)
        self.threads = Slots(threads)
        self.at_work: set[asyncio.Task[Payload]] = set()
        self.running: set[asyncio.Task[None]] = set()

    async def idle(self) -> None:
        """Return when no attempt is under way."""
        while self.at_work:
            await asyncio.wait(self.at_work)

    def slots_for(self, activity_type: str) -> Slots:
        """Plain activities have slots of their own: threads."""
        definition = self.registry.activities.get(activity_type)
        return self.threads if definition is not None and definition.is_plain else self.slots

    def start(self, job: Job, report: Report, store: Store) -> Running:
        """Begin or go on with an activity."""
        running = Running(self, job, report, store)
        self.running.add(running.task)
        running.task.add_done_callback(self.running.discard)
        return running


def _failure_of(error: BaseException) -> Failure:
    failure = failure_of(error)
    if isinstance(error, PayloadError | LimitExceeded):
        return failure._replace(non_retryable=True)  # the same value again would not fit either
    return failure


def _moment(bound: Moment) -> float:
    return bound[1]


def _cancelled() -> Failure:
    return Failure(FailureKind.CANCELED, "the activity was cancelled")


def _cancelled_itself() -> Failure:
    why = "it let through a cancellation that nobody had asked for"
    return Failure(FailureKind.APPLICATION, why, asyncio.CancelledError.__name__)


def _timed_out(kind: TimeoutType) -> Failure:
    return Failure(FailureKind.TIMEOUT, f"the {kind.value} timeout was reached", kind.value)

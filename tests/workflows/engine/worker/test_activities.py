"""Activities are retried, paused, cancelled and timed out; their payloads are limited.

The workflow ``Chain`` runs the activity ``work`` for each word, and is paused after three failed
attempts. ``Waiting`` runs the named activity with the given limits, and returns the result or the
type of the error. ``Saga`` books and pays; if the payment fails, ``Saga`` undoes the booking.
``Greedy`` passes a word of the given length.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from core.errors import CallRejected
from tests.support.engine_harness import EngineHarness, eventually, within
from tests.support.engine_samples import (
    ActivityLimits,
    Chain,
    Greedy,
    Saga,
    Sleeper,
    Waiting,
    sample_registry,
)
from tests.workflows.engine.clocks import JumpingClock
from workflows.api import activity, workflow
from workflows.api.definitions import Registry
from workflows.engine.worker import activities
from workflows.model.errors import LimitExceeded
from workflows.model.events import ActivityTaskStarted
from workflows.model.limits import PAYLOAD_ERROR_BYTES, PAYLOAD_WARN_BYTES
from workflows.model.policies import ExecutionStatus


async def test_the_history_records_only_the_last_attempt(engine: EngineHarness) -> None:
    engine.activities.failures_left = 2
    await engine.start_worker()
    handle = await engine.client.start(Chain, ["a"], id="one")
    await within(handle.result())
    events = await engine.history(handle)

    started = [
        event.attributes for event in events if isinstance(event.attributes, ActivityTaskStarted)
    ]
    assert engine.activities.calls == ["a", "a", "a"]
    assert [event.attempt for event in started] == [3]


async def test_the_pause_option_pauses_the_execution_after_the_last_attempt(
    engine: EngineHarness,
) -> None:
    engine.activities.failures_left = 3
    await engine.start_worker()
    await engine.client.start(Chain, ["a"], id="one")
    head = await engine.until_status("one", ExecutionStatus.PAUSED)

    assert "a did not work" in head.reason
    assert head.paused_activity == 1


async def test_a_paused_execution_continues_after_a_retry(engine: EngineHarness) -> None:
    engine.activities.failures_left = 3
    await engine.start_worker()
    handle = await engine.client.start(Chain, ["a", "b"], id="one")
    await engine.until_status("one", ExecutionStatus.PAUSED)
    await engine.client.retry("one", "the disk is back")

    assert await within(handle.result()) == ["A", "B"]
    assert "WorkflowExecutionUnpaused" in await engine.event_types(handle)


class FailingPayment:
    def __init__(self) -> None:
        self.calls: list[str] = []

    @activity.defn(name="work")
    async def work(self, what: str) -> str:
        self.calls.append(what)
        if what == "pay":
            raise OSError("no money")
        return what.upper()


PAUSE_AFTER_LAST_ATTEMPT = True


def _saga_registry(failing: FailingPayment) -> Registry:
    return Registry([Saga], [failing.work])


async def test_without_the_pause_option_the_last_failure_reaches_the_workflow(
    engine: EngineHarness,
) -> None:
    failing = FailingPayment()
    await engine.start_worker(registry=_saga_registry(failing))

    assert await engine.run_workflow(Saga) == ["UNDO", "ActivityError", "MaximumAttemptsReached"]
    assert failing.calls == ["book", "pay", "pay", "undo"]


async def test_cancelling_a_paused_execution_runs_its_compensation(
    engine: EngineHarness,
) -> None:
    failing = FailingPayment()
    await engine.start_worker(registry=_saga_registry(failing))
    handle = await engine.client.start(Saga, PAUSE_AFTER_LAST_ATTEMPT, id="one")
    await engine.until_status("one", ExecutionStatus.PAUSED)
    await handle.cancel("no use")

    assert (await within(handle.result()))[0] == "UNDO"
    assert failing.calls == ["book", "pay", "pay", "undo"]
    types = await engine.event_types(handle)
    assert "WorkflowExecutionUnpaused" in types
    assert types.count("ActivityTaskFailed") == 1


async def test_the_next_worker_compensates_an_execution_cancelled_while_paused(
    engine: EngineHarness,
) -> None:
    failing = FailingPayment()
    first = await engine.start_worker(registry=_saga_registry(failing))
    handle = await engine.client.start(Saga, PAUSE_AFTER_LAST_ATTEMPT, id="one")
    await engine.until_status("one", ExecutionStatus.PAUSED)
    await first.close()
    await handle.cancel()
    await engine.start_worker(registry=_saga_registry(failing))

    assert (await within(handle.result()))[0] == "UNDO"


async def test_a_signal_reaches_a_paused_execution(engine: EngineHarness) -> None:
    engine.activities.failures_left = 3
    await engine.start_worker()
    handle = await engine.client.start(Chain, ["a"], id="one")
    await engine.until_status("one", ExecutionStatus.PAUSED)
    await handle.signal("anything")

    async def is_recorded() -> bool:
        return (await engine.head("one")).signals == 1

    assert await eventually(is_recorded)


async def test_a_paused_execution_can_be_terminated(engine: EngineHarness) -> None:
    engine.activities.failures_left = 3
    await engine.start_worker()
    handle = await engine.client.start(Chain, ["a"], id="one")
    await engine.until_status("one", ExecutionStatus.PAUSED)
    await handle.terminate("hopeless")

    assert await engine.until_status("one", ExecutionStatus.TERMINATED)


async def test_only_a_paused_execution_can_be_retried(engine: EngineHarness) -> None:
    await engine.start_worker()
    await engine.client.start(Sleeper, id="one")

    with pytest.raises(CallRejected):
        await engine.client.retry("one")


async def test_timed_out_attempts_are_retried_until_the_schedule_to_close_timeout(
    engine: EngineHarness,
) -> None:
    await engine.start_worker()

    assert (
        await engine.run_workflow(Waiting, "wait", ActivityLimits(0.02, schedule_to_close_s=2))
        == "TimeoutError ScheduleToClose"
    )
    assert len(engine.activities.calls) > 1


async def test_the_next_attempt_gets_the_details_of_the_last_heartbeat(
    engine: EngineHarness,
) -> None:
    await engine.start_worker()

    assert await engine.run_workflow(Waiting, "climb", ActivityLimits(10, heartbeat_s=0.5)) == "up"
    assert engine.activities.received_details == [(), ("step 1",)]


async def test_a_cancelled_execution_stops_its_activity(engine: EngineHarness) -> None:
    await engine.start_worker()
    handle = await engine.client.start(Waiting, "wait", ActivityLimits(10), id="one")
    await within(engine.activities.begun.wait())
    await handle.cancel()
    await engine.until_status("one", ExecutionStatus.CANCELED)

    events = await engine.event_types(handle)
    assert events.index("ActivityTaskCancelRequested") < events.index("ActivityTaskCanceled")


async def test_the_next_worker_does_not_restart_a_cancelled_activity(
    engine: EngineHarness,
) -> None:
    cancel_was_ignored = asyncio.Event()

    @activity.defn()
    async def ignoring() -> None:
        engine.activities.calls.append("ignoring")
        engine.activities.begun.set()
        while not engine.activities.gate.is_set():
            try:
                await engine.activities.gate.wait()
            except asyncio.CancelledError:
                cancel_was_ignored.set()

    with_ignoring = sample_registry(engine.activities, ignoring)
    worker = await engine.start_worker(registry=with_ignoring)
    handle = await engine.client.start(Waiting, "ignoring", ActivityLimits(20), id="one")
    await within(engine.activities.begun.wait())
    await handle.cancel()
    await within(cancel_was_ignored.wait())
    await engine.kill_worker(worker)
    await engine.start_worker(registry=with_ignoring)

    await engine.until_status("one", ExecutionStatus.CANCELED)
    assert engine.activities.calls == ["ignoring"]


async def test_an_activity_that_cancels_itself_is_retried(
    engine: EngineHarness,
) -> None:
    @activity.defn()
    async def cancelling_itself() -> str:
        if activity.info().attempt == 1:
            asyncio.current_task().cancel()  # type: ignore[union-attr]  # activities run in tasks
            await asyncio.sleep(0)
        return "done"

    await engine.start_worker(registry=sample_registry(engine.activities, cancelling_itself))

    assert await engine.run_workflow(Waiting, "cancelling_itself", ActivityLimits(20)) == "done"


async def test_a_heartbeat_of_a_timed_out_attempt_raises_cancelled_error(
    engine: EngineHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(activities, "STOP_S_MAX", 0.01)
    notices: list[str] = []

    @activity.defn()
    async def reattempted() -> str:
        if activity.info().attempt > 1:
            await within(engine.activities.begun.wait())
            return f"{activity.info().heartbeat_details} {notices}"
        with suppress(asyncio.CancelledError):
            await engine.activities.gate.wait()
        try:
            activity.heartbeat("still here")
            await asyncio.sleep(0)
            while not notices:
                await asyncio.sleep(0)
                activity.heartbeat("and here")
        except workflow.CancelledError:
            notices.append("cancelled")
            engine.activities.begun.set()
        return "too late"

    await engine.start_worker(registry=sample_registry(engine.activities, reattempted))

    assert "cancelled" in await engine.run_workflow(Waiting, "reattempted", ActivityLimits(0.3))


async def test_a_retry_restarts_the_timeouts_for_the_next_worker(engine: EngineHarness) -> None:
    clock = JumpingClock()
    first = await engine.start_worker(clock=clock)
    engine.activities.failures_left = 2
    handle = await engine.client.start(
        Waiting,
        "work_or_wait",  # fails twice, then waits until ``gate`` is set
        ActivityLimits(20, schedule_to_close_s=60, maximum_attempts=2, pause_when_exhausted=True),
        id="one",
    )
    await engine.until_status("one", ExecutionStatus.PAUSED)
    clock.offset_ms = 3_600_000  # longer than ``schedule_to_close_s``
    await engine.client.retry("one")
    await within(engine.activities.begun.wait())
    await engine.kill_worker(first)
    engine.activities.gate.set()
    await engine.start_worker(clock=clock)

    assert await within(handle.result()) == "waited"


async def test_the_client_rejects_an_argument_beyond_the_payload_limit(
    engine: EngineHarness,
) -> None:
    await engine.start_worker()
    await engine.client.start(Greedy, PAYLOAD_ERROR_BYTES - 100, id="fits")
    assert await engine.until_status("fits", ExecutionStatus.COMPLETED)

    with pytest.raises(LimitExceeded, match="PAYLOAD_ERROR_BYTES"):
        await engine.client.start(Chain, ["x" * PAYLOAD_ERROR_BYTES], id="one")


async def test_an_activity_argument_beyond_the_payload_limit_pauses_the_execution(
    engine: EngineHarness,
) -> None:
    await engine.start_worker()
    await engine.client.start(Greedy, PAYLOAD_ERROR_BYTES + 100, id="one")
    head = await engine.until_status("one", ExecutionStatus.PAUSED)

    assert "PAYLOAD_ERROR_BYTES" in head.reason


async def test_a_large_payload_is_logged_with_its_event(
    engine: EngineHarness, caplog: pytest.LogCaptureFixture
) -> None:
    await engine.start_worker()
    await engine.run_workflow(Greedy, PAYLOAD_WARN_BYTES, id="large")

    async def two_messages() -> list[str] | None:
        messages = [
            record.getMessage() for record in caplog.records if "large," in record.getMessage()
        ]
        return messages if len(messages) == 2 else None

    scheduled, completed = await eventually(two_messages)
    # An event has a few bytes more than its payload.
    assert "ActivityTaskScheduled, has 8304 bytes, PAYLOAD_WARN_BYTES is" in scheduled
    assert "ActivityTaskCompleted, has 8230 bytes, PAYLOAD_WARN_BYTES is" in completed

"""Activities on a clock that skips waits."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from typing import Any, Self

from workflows.api import activity, workflow
from workflows.api.definitions import Registry
from workflows.model.policies import ExecutionStatus
from workflows.testing import WorkflowEnvironment

Body = Callable[[int], Awaitable[object]]


@workflow.defn()
class Requesting:
    """Requests ``count`` activities concurrently; returns their outcomes."""

    @workflow.run
    async def run(self, count: int, timeouts: dict[str, Any], attempts: int = 0) -> list[str]:
        options = workflow.ActivityOptions(
            retry=workflow.RetryPolicy(maximum_attempts=attempts, pause_when_exhausted=True),
            cancellation=workflow.CancellationType.WAIT_CANCELLATION_COMPLETED,
        )._replace(**timeouts)
        pending: list[Awaitable[object]] = [
            workflow.start_activity("act", number, options=options) for number in range(count)
        ]
        return [await self._outcome(future) for future in pending]

    async def _outcome(self, pending: Awaitable[object]) -> str:
        try:
            return str(await pending)
        except workflow.ActivityError as error:
            return str(getattr(error.__cause__, "type", error.__cause__))


@workflow.defn()
class RequestingTogether:
    """Awaits two activities together, so a cancellation reaches both."""

    @workflow.run
    async def run(self) -> None:
        options = workflow.ActivityOptions(
            start_to_close_s=100.0,
            cancellation=workflow.CancellationType.WAIT_CANCELLATION_COMPLETED,
        )
        await workflow.gather(
            *(workflow.start_activity("act", number, options=options) for number in range(2))
        )


class ActivityHarness:
    """An environment with one activity, whose body a test sets."""

    def __init__(self, *, slots: int = 100) -> None:
        self.body: Body | None = None
        self.numbers: list[int] = []

        @activity.defn(name="act")
        async def act(number: int) -> object:
            self.numbers.append(number)
            assert self.body is not None
            return await self.body(number)

        self.env = WorkflowEnvironment(
            Registry([Requesting, RequestingTogether], [act]), slots=slots
        )

    async def __aenter__(self) -> Self:
        await self.env.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.env.close()

    async def run(self, body: Body, count: int = 1, attempts: int = 0, **timeouts: float) -> object:
        self.body = body
        return await self.env.execute(Requesting, count, timeouts, attempts)


async def test_concurrent_activities_take_the_time_of_the_longest_activity() -> None:
    async with ActivityHarness() as harness:
        before = harness.env.now_ms

        async def take(number: int) -> int:
            await harness.env.spend(60 - number)
            return number

        assert await harness.run(take, 3, start_to_close_s=100) == ["0", "1", "2"]
        assert harness.env.now_ms - before == 60_000


async def test_the_clock_does_not_advance_while_an_activity_waits_for_a_thread() -> None:
    async with ActivityHarness() as harness:
        before = harness.env.now_ms

        async def work(number: int) -> int:
            return await asyncio.to_thread(lambda: number + 1)

        assert await harness.run(work, 2, start_to_close_s=1) == ["1", "2"]
        assert harness.env.now_ms == before


async def test_an_attempt_that_times_out_is_retried() -> None:
    async with ActivityHarness() as harness:
        before = harness.env.now_ms

        async def slow_at_first(_: int) -> int:
            await harness.env.spend(math.inf if activity.info().attempt == 1 else 2)
            return activity.info().attempt

        assert await harness.run(slow_at_first, start_to_close_s=10) == ["2"]
        assert harness.env.now_ms - before == (10 + 1 + 2) * 1000  # timeout, pause, attempt


async def test_the_attempt_after_a_heartbeat_timeout_gets_the_last_heartbeat_details() -> None:
    async with ActivityHarness() as harness:

        async def fall_silent(_: int) -> object:
            info = activity.info()
            if info.heartbeat_details:
                return info.heartbeat_details[0]
            for step in range(5):
                activity.heartbeat(f"step {step}")
                await harness.env.spend(2)
            await harness.env.spend(math.inf)
            return "never"

        before = harness.env.now_ms
        assert await harness.run(fall_silent, start_to_close_s=60, heartbeat_s=3) == ["step 4"]
        # The last heartbeat, the timeout, and the pause before the next attempt.
        assert harness.env.now_ms - before == (8 + 3 + 1) * 1000


async def test_an_activity_fails_if_a_retry_would_start_after_schedule_to_close() -> None:
    async with ActivityHarness() as harness:

        async def fail(_: int) -> None:
            raise OSError("down")

        assert await harness.run(fail, schedule_to_close_s=10) == ["ScheduleToClose"]
        assert len(harness.numbers) == 4  # attempts at 0, 1, 3 and 7 s, and none at 15 s


async def test_schedule_to_start_fails_an_activity_that_waits_for_a_slot() -> None:
    async with ActivityHarness(slots=1) as harness:

        async def take(number: int) -> int:
            await harness.env.spend(10)
            return number

        outcomes = await harness.run(take, 3, schedule_to_start_s=15, start_to_close_s=20)
        assert outcomes == ["0", "1", "ScheduleToStart"]
        assert harness.numbers == [0, 1]


async def test_schedule_to_close_includes_the_wait_for_a_slot() -> None:
    async with ActivityHarness(slots=1) as harness:

        async def take(number: int) -> int:
            await harness.env.spend(10)
            return number

        assert await harness.run(take, 2, schedule_to_close_s=10.5) == ["0", "ScheduleToClose"]


async def test_a_cancelled_execution_starts_no_activity_that_waits_for_a_slot() -> None:
    async with ActivityHarness(slots=1) as harness:
        stopped: list[int] = []

        async def take(number: int) -> None:
            try:
                await harness.env.spend(math.inf)
            finally:
                stopped.append(number)

        harness.body = take
        handle = await harness.env.start(RequestingTogether)
        await harness.env.settle()
        await handle.cancel()

        assert await handle.status() is ExecutionStatus.CANCELED
        assert stopped == harness.numbers == [0]


async def test_a_retry_of_a_paused_execution_starts_a_new_attempt() -> None:
    async with ActivityHarness() as harness:
        outage = [True]

        async def fragile(number: int) -> int:
            if outage and number:
                raise OSError("down")
            return number

        harness.body = fragile
        handle = await harness.env.start(Requesting, 2, {"start_to_close_s": 10.0}, 2)
        await harness.env.advance(5)
        assert await handle.status() is ExecutionStatus.PAUSED
        outage.clear()
        await handle.retry()

        assert await handle.result() == ["0", "1"]
        assert harness.numbers == [0, 1, 1, 1]


async def test_cancelling_a_paused_execution_raises_the_failure_of_its_activity() -> None:
    async with ActivityHarness() as harness:

        async def fragile(_: int) -> int:
            raise OSError("down")

        harness.body = fragile
        handle = await harness.env.start(Requesting, 1, {"start_to_close_s": 10.0}, 2)
        await harness.env.advance(5)
        assert await handle.status() is ExecutionStatus.PAUSED
        await handle.cancel()

        assert await handle.result() == ["OSError"]

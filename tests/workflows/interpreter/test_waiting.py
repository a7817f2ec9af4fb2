"""Waits of workflow code: for several futures, with a timeout, and cancelled waits.

Activities and timers are each numbered from 1; the number is the first argument of an event.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from tests.workflows.interpreter.script import Script, timer
from workflows.api import workflow
from workflows.model import events as ev
from workflows.model.failures import Failure, FailureKind

QUICK = workflow.ActivityOptions(start_to_close_s=5)
FAILURE = Failure(FailureKind.APPLICATION, "full", "PoolFull")


def script_of(body: Callable[[], Awaitable[object]]) -> Script:
    @workflow.defn(name="Body")
    class Body:
        @workflow.run
        async def run(self) -> object:
            return await body()

    return Script(Body)


def names(commands: object) -> list[str]:
    assert isinstance(commands, tuple)
    return [type(command).__name__ for command in commands]


def last_result(script: Script) -> object:
    done = script.history[-1].attributes
    assert isinstance(done, ev.WorkflowExecutionCompleted), done
    script.replayed()
    return done.result


def work(name: str) -> workflow.Future[object]:
    return workflow.start_activity(name, options=QUICK)


def test_gather_keeps_the_order_of_its_arguments() -> None:
    async def body() -> object:
        return await workflow.gather(work("a"), work("b"), work("c"))

    script = script_of(body)
    script.task()
    script.task(ev.ActivityTaskCompleted(3, "c"), ev.ActivityTaskCompleted(1, "a"))
    script.task(ev.ActivityTaskCompleted(2, "b"))

    assert last_result(script) == ["a", "b", "c"]


def test_gather_raises_the_first_error_and_other_activities_continue() -> None:
    async def body() -> object:
        slow = work("slow")
        try:
            await workflow.gather(slow, work("bad"))
        except workflow.ActivityError:
            return ["failed", await slow]
        return []

    script = script_of(body)
    script.task()
    assert script.task(ev.ActivityTaskFailed(2, FAILURE)) == ()
    script.task(ev.ActivityTaskCompleted(1, 1))

    assert last_result(script) == ["failed", 1]


def test_gather_can_collect_errors_too() -> None:
    async def body() -> object:
        results = await workflow.gather(work("bad"), work("good"), return_exceptions=True)
        return [type(results[0]).__name__, results[1], await workflow.gather()]

    script = script_of(body)
    script.task()
    script.task(ev.ActivityTaskFailed(1, FAILURE), ev.ActivityTaskCompleted(2, 2))

    assert last_result(script) == ["ActivityError", 2, []]


def test_first_done_returns_the_index_of_the_finished_future() -> None:
    async def body() -> object:
        pause = workflow.start(timer(60))
        activity = work("a")
        index = await workflow.first_done(pause, activity)
        pause.cancel()
        return index

    script = script_of(body)
    script.task()

    assert names(script.task(ev.ActivityTaskCompleted(1))) == [
        "TimerCanceled",
        "WorkflowExecutionCompleted",
    ]
    assert last_result(script) == 1


def test_wait_for_cancels_a_future_after_its_timeout() -> None:
    async def body() -> object:
        try:
            return await workflow.wait_for(work("a"), 30)
        except workflow.TimeoutError as error:
            return str(error)

    script = script_of(body)
    assert names(script.task()) == ["ActivityTaskScheduled", "TimerStarted"]
    assert names(script.task(ev.TimerFired(1)))[0] == "ActivityTaskCancelRequested"
    assert last_result(script) == "activity a #1 took longer than 30 s"


def test_wait_for_cancels_its_timer_when_the_future_is_done() -> None:
    async def body() -> object:
        return await workflow.wait_for(work("a"), 30)

    script = script_of(body)
    script.task()

    assert names(script.task(ev.ActivityTaskCompleted(1, 5)))[0] == "TimerCanceled"
    assert last_result(script) == 5


def test_a_true_condition_starts_no_timer() -> None:
    async def body() -> object:
        await workflow.wait_condition(lambda: True, timeout_s=5)
        return None

    script = script_of(body)

    assert names(script.task()) == ["WorkflowExecutionCompleted"]


def test_a_wait_ends_when_another_task_makes_its_condition_true() -> None:
    async def body() -> object:
        values: list[int] = []

        async def other() -> None:
            await timer(5)
            values.append(1)

        workflow.start(other())
        await workflow.wait_condition(lambda: bool(values))
        return values

    script = script_of(body)
    script.task()
    script.task(ev.TimerFired(1))

    assert last_result(script) == [1]


def test_awaiting_a_condition_raises_the_error_of_the_condition() -> None:
    nothing: list[int] = []

    async def body() -> object:
        try:
            await workflow.wait_condition(lambda: bool(nothing[0]))
        except IndexError:
            return "raised"
        return ""

    script = script_of(body)
    script.task()

    assert last_result(script) == "raised"


def test_a_cancelled_run_can_finish_a_shielded_activity() -> None:
    async def body() -> object:
        release = work("release")
        try:
            await workflow.shield(release)
        except workflow.CancelledError:
            await release
            return "released"
        return ""

    script = script_of(body)
    script.task()
    assert script.task(ev.WorkflowExecutionCancelRequested()) == ()
    script.task(ev.ActivityTaskCompleted(1))

    assert last_result(script) == "released"


def test_an_uncaught_cancellation_ends_the_run_as_cancelled() -> None:
    async def body() -> object:
        return await workflow.gather(work("a"), work("b"))

    script = script_of(body)
    script.task()

    assert names(script.task(ev.WorkflowExecutionCancelRequested())) == [
        "ActivityTaskCancelRequested",
        "ActivityTaskCancelRequested",
        "WorkflowExecutionCanceled",
    ]
    assert script.replayed().closed


def test_except_exception_does_not_catch_a_cancellation() -> None:
    async def body() -> object:
        try:
            await timer(5)
        except Exception:  # noqa: BLE001 - the point of the test
            return "swallowed"
        return ""

    script = script_of(body)
    script.task()

    assert names(script.task(ev.WorkflowExecutionCancelRequested())) == [
        "TimerCanceled",
        "WorkflowExecutionCanceled",
    ]


def test_a_task_that_is_cancelled_before_its_first_step_does_not_run() -> None:
    begun: list[int] = []

    async def body() -> object:
        async def other() -> None:
            begun.append(1)

        task = workflow.start(other())
        task.cancel()
        try:
            await task
        except workflow.CancelledError:
            return "cancelled"
        return ""

    script = script_of(body)
    script.task()

    assert last_result(script) == "cancelled"
    assert not begun


def test_sleep_0_lets_other_tasks_run_and_records_nothing() -> None:
    async def body() -> object:
        order: list[str] = []

        async def other() -> None:
            order.append("other")

        task = workflow.start(other())
        await workflow.sleep(0)
        order.append("main")
        await task
        return order

    script = script_of(body)

    assert names(script.task()) == ["WorkflowExecutionCompleted"]
    assert last_result(script) == ["other", "main"]


@pytest.mark.parametrize("foreign", ["asyncio", "custom"])
def test_awaiting_a_foreign_awaitable_fails_the_task(foreign: str) -> None:
    class CustomAwaitable:
        def __await__(self):  # type: ignore[no-untyped-def]  # noqa: ANN204
            yield "custom"

    async def body() -> object:
        if foreign == "asyncio":
            import asyncio

            await asyncio.sleep(0)
        else:
            await CustomAwaitable()
        return None

    script = script_of(body)
    with pytest.raises(Exception, match=r"use workflow\.sleep"):
        script.task()

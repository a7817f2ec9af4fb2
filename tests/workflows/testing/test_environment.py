"""Workflows in the test environment, with cached interpreters or a replay before each task."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from core.errors import CallRejected, ExecutionFailed
from tests.workflows.testing.sample import (
    SAMPLE_REGISTRY,
    Basket,
    Counting,
    Courier,
    Doubling,
    Failing,
    Forgetful,
    Parent,
    Poisoned,
    Sleeper,
    Stopper,
)
from workflows.api import activity
from workflows.api.definitions import Registry
from workflows.model.policies import ExecutionStatus, ParentClosePolicy
from workflows.testing import StuckError, WorkflowEnvironment, replay


@pytest.fixture(params=["cached", "replayed"])
async def env(request: pytest.FixtureRequest) -> AsyncIterator[WorkflowEnvironment]:
    async with WorkflowEnvironment(SAMPLE_REGISTRY, replays=request.param == "replayed") as opened:
        yield opened


async def test_a_workflow_returns_the_result_of_its_activities(env: WorkflowEnvironment) -> None:
    assert await env.execute(Doubling, 3, 2) == 12  # 3, doubled twice


async def test_the_history_of_an_execution_can_be_replayed(env: WorkflowEnvironment) -> None:
    await env.execute(Doubling, 3, 2, workflow_id="doubling")

    assert replay(SAMPLE_REGISTRY, await env.handle("doubling").history()).closed


async def test_pauses_before_retries_are_skipped_and_the_history_has_only_the_last_attempt(
    env: WorkflowEnvironment,
) -> None:
    before = env.now_ms

    assert await env.execute(Failing, 3, workflow_id="failing") == 4

    assert env.now_ms - before == (1 + 2 + 4) * 1000, "the pauses before three retries"
    assert (await env.handle("failing").event_types()).count("ActivityTaskStarted") == 1


async def test_an_execution_is_paused_after_the_last_failed_attempt_until_a_retry() -> None:
    outage = [True]

    @activity.defn(name="fail")
    def fragile(times: int) -> int:
        if outage:
            raise OSError("down")
        return times

    async with WorkflowEnvironment(Registry([Failing], [fragile])) as env:
        handle = await env.start(Failing, 7, "twice")  # at most two attempts
        with pytest.raises(
            StuckError, match=r"Paused.*activity 1 failed in its last attempt.*down"
        ):
            await handle.result()

        assert await handle.status() is ExecutionStatus.PAUSED
        outage.clear()
        await handle.retry()
        assert await handle.result() == 7
        assert "WorkflowExecutionFailed" not in await handle.event_types()


async def test_a_non_retryable_failure_reaches_the_workflow_without_a_pause(
    env: WorkflowEnvironment,
) -> None:
    before = env.now_ms

    assert await env.execute(Poisoned) == "Poison"
    assert env.now_ms == before


async def test_signals_queries_and_updates_reach_a_running_workflow(
    env: WorkflowEnvironment,
) -> None:
    handle = await env.start(Basket)
    await handle.signal("put", "apple")
    await handle.signal("put", "pear")

    assert await handle.query("count") == 2
    assert await handle.update("take", "apple") == 1
    await handle.signal("close")
    assert await handle.result() == ["pear"]
    assert await handle.query("count") == 1


async def test_a_rejected_update_is_not_recorded(env: WorkflowEnvironment) -> None:
    handle = await env.start(Basket)
    with pytest.raises(CallRejected, match="no plum here"):
        await handle.update("take", "plum")
    with pytest.raises(CallRejected, match=r"no update give.*take"):
        await handle.update("give", "plum")

    assert not [name for name in await handle.event_types() if "Update" in name]


async def test_a_query_that_issues_a_command_is_rejected_and_changes_nothing(
    env: WorkflowEnvironment,
) -> None:
    handle = await env.start(Basket)
    with pytest.raises(CallRejected, match="may only read"):
        await handle.query("meddle")
    with pytest.raises(CallRejected, match=r"no query size.*count"):
        await handle.query("size")

    await env.settle()
    assert "ActivityTaskScheduled" not in await handle.event_types()


async def test_a_wait_condition_ends_after_its_timeout(env: WorkflowEnvironment) -> None:
    before = env.now_ms

    assert await env.execute(Basket) == []
    assert env.now_ms - before == 3_600_000


async def test_a_parent_gets_the_results_of_its_children(env: WorkflowEnvironment) -> None:
    assert await env.execute(Parent, 4) == 8 + 20  # the children double 4 and 10


async def test_a_parent_fails_if_the_id_of_its_child_is_taken(env: WorkflowEnvironment) -> None:
    await env.start(Sleeper, workflow_id="other")
    with pytest.raises(ExecutionFailed, match="did not start"):
        await (await env.start(Parent, 4, workflow_id="parent")).result()


@pytest.mark.parametrize(
    ("policy", "status"),
    [
        (ParentClosePolicy.TERMINATE, ExecutionStatus.TERMINATED),
        (ParentClosePolicy.REQUEST_CANCEL, ExecutionStatus.CANCELED),
        (ParentClosePolicy.ABANDON, ExecutionStatus.RUNNING),
    ],
)
@pytest.mark.parametrize("then", ["", "Doubling"], ids=["completes", "continues as new"])
async def test_the_close_policy_decides_the_status_of_a_child_after_the_parent_closes(
    env: WorkflowEnvironment, policy: ParentClosePolicy, status: ExecutionStatus, then: str
) -> None:
    await env.execute(Forgetful, policy, then)
    await env.settle()

    assert await env.handle("child").status() is status


async def test_a_cancelled_workflow_runs_an_activity_before_it_ends(
    env: WorkflowEnvironment,
) -> None:
    handle = await env.start(Sleeper)
    await env.settle()
    await handle.cancel("enough")
    with pytest.raises(ExecutionFailed, match="Canceled"):
        await handle.result()

    assert await handle.status() is ExecutionStatus.CANCELED
    assert "ActivityTaskCompleted" in await handle.event_types()


async def test_a_terminated_workflow_schedules_no_activity(env: WorkflowEnvironment) -> None:
    handle = await env.start(Sleeper)
    await env.settle()
    await handle.terminate("enough")
    with pytest.raises(ExecutionFailed, match="Terminated: enough"):
        await handle.result()

    assert "ActivityTaskScheduled" not in await handle.event_types()


async def test_continue_as_new_keeps_the_workflow_id(env: WorkflowEnvironment) -> None:
    # Two runs continue as new. The last run returns the ID of the second run.
    continued_run_id = await env.execute(Counting, 2, workflow_id="counting")

    runs = await env.runs("counting")
    assert len(runs) == 3
    assert continued_run_id == runs[1].run_id


async def test_a_workflow_signals_or_cancels_another_execution(env: WorkflowEnvironment) -> None:
    basket = await env.start(Basket, workflow_id="basket")
    sleeper = await env.start(Sleeper, workflow_id="sleeper")

    assert await env.execute(Courier, "basket", workflow_id="courier") == "delivered"
    assert await basket.result() == ["parcel"]
    await env.execute(Stopper, "sleeper", workflow_id="stopper")
    await env.settle()
    assert await sleeper.status() is ExecutionStatus.CANCELED


async def test_a_signal_to_an_unknown_execution_raises_no_such_execution(
    env: WorkflowEnvironment,
) -> None:
    assert await env.execute(Courier, "unknown") == "NoSuchExecution"


async def test_advance_skips_the_given_time(env: WorkflowEnvironment) -> None:
    handle = await env.start(Sleeper)
    await env.advance(86_399)
    assert await handle.status() is ExecutionStatus.RUNNING

    await env.advance(1)
    assert await handle.result() == "slept"


async def test_run_until_raises_stuck_error_if_no_execution_is_open(
    env: WorkflowEnvironment,
) -> None:
    await env.start("Basket")
    with pytest.raises(StuckError, match="no execution is open"):
        await env.run_until(lambda: False)


async def test_an_activity_that_is_not_registered_is_tried_again() -> None:
    async with WorkflowEnvironment(Registry([Failing])) as env:
        await env.start(Failing, 1, workflow_id="failing")
        await env.settle()
        attempts = (await env.visibility.describe("failing")).attempts

    assert attempts[1].last_failure is not None
    assert "fail is not registered" in attempts[1].last_failure.message

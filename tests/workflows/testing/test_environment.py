"""Workflows run to completion in memory: every test twice, warm and replayed at every task."""

from __future__ import annotations

import pytest

from tests.workflows.testing.sample import (
    REGISTRY,
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
from workflows.model.errors import (
    ApplicationError,
    CancelledError,
    QueryError,
    TerminatedError,
)
from workflows.model.policies import ExecutionStatus, ParentClosePolicy
from workflows.testing import StuckError, WorkflowEnvironment, replay


@pytest.fixture(params=["warm", "replayed"])
def env(request: pytest.FixtureRequest) -> WorkflowEnvironment:
    return WorkflowEnvironment(REGISTRY, replays=request.param == "replayed")


async def test_a_workflow_returns_what_its_activities_made(env: WorkflowEnvironment) -> None:
    assert await env.execute(Doubling, 3, 2) == 12


async def test_a_history_of_the_environment_can_be_replayed(env: WorkflowEnvironment) -> None:
    await env.execute(Doubling, 3, 2)

    assert replay(REGISTRY, env.handle("workflow").history).closed


async def test_retries_wait_in_skipped_time_and_leave_one_start_in_the_history(
    env: WorkflowEnvironment,
) -> None:
    before = env.now_ms

    assert await env.execute(Failing, 3) == 4

    assert env.now_ms - before == (1 + 2 + 4) * 1000
    assert env.handle("workflow").event_types.count("ActivityTaskStarted") == 1


async def test_after_the_last_attempt_the_execution_is_paused_until_somebody_says_retry() -> None:
    outage = [True]

    @activity.defn(name="fail")
    def fragile(times: int) -> int:
        if outage:
            raise OSError("down")
        return times

    env = WorkflowEnvironment(Registry([Failing], [fragile]))
    handle = env.start(Failing, 7, "twice")
    with pytest.raises(StuckError, match=r"Paused.*activity 1 failed in its last attempt.*down"):
        await handle.result()

    assert handle.status is ExecutionStatus.PAUSED
    outage.clear()
    await handle.retry()
    assert await handle.result() == 7
    assert "WorkflowExecutionFailed" not in handle.event_types


async def test_a_type_that_is_not_retried_reaches_the_workflow_at_once(
    env: WorkflowEnvironment,
) -> None:
    before = env.now_ms

    assert await env.execute(Poisoned) == "Poison"
    assert env.now_ms == before


async def test_signals_queries_and_updates_reach_a_running_workflow(
    env: WorkflowEnvironment,
) -> None:
    handle = env.start(Basket)
    await handle.signal("put", "apple")
    await handle.signal("put", "pear")

    assert await handle.query("count") == 2
    assert await handle.update("take", "apple") == 1
    await handle.signal("close")
    assert await handle.result() == ["pear"]
    assert await handle.query("count") == 1


async def test_a_refused_update_leaves_no_trace(env: WorkflowEnvironment) -> None:
    handle = env.start(Basket)
    with pytest.raises(ApplicationError, match="no plum here"):
        await handle.update("take", "plum")
    with pytest.raises(ApplicationError, match=r"no update give.*take"):
        await handle.update("give", "plum")

    assert not [name for name in handle.event_types if "Update" in name]


async def test_a_query_that_asks_for_something_is_refused_and_changes_nothing(
    env: WorkflowEnvironment,
) -> None:
    handle = env.start(Basket)
    with pytest.raises(QueryError, match="may only look"):
        await handle.query("meddle")
    with pytest.raises(QueryError, match=r"no query size.*count"):
        await handle.query("size")

    await env.settle()
    assert "ActivityTaskScheduled" not in handle.event_types


async def test_a_wait_with_a_timeout_ends_in_skipped_time(env: WorkflowEnvironment) -> None:
    before = env.now_ms

    assert await env.execute(Basket) == []
    assert env.now_ms - before == 3_600_000


async def test_children_give_their_results_to_their_parent(env: WorkflowEnvironment) -> None:
    assert await env.execute(Parent, 4) == 8 + 20


async def test_a_child_whose_id_is_taken_fails_in_its_parent(env: WorkflowEnvironment) -> None:
    env.start(Sleeper, workflow_id="other")
    with pytest.raises(Exception, match="did not start"):
        await env.start(Parent, 4, workflow_id="parent").result()


@pytest.mark.parametrize(
    ("policy", "status"),
    [
        (ParentClosePolicy.TERMINATE, ExecutionStatus.TERMINATED),
        (ParentClosePolicy.REQUEST_CANCEL, ExecutionStatus.CANCELED),
        (ParentClosePolicy.ABANDON, ExecutionStatus.RUNNING),
    ],
)
@pytest.mark.parametrize("then", ["", "Doubling"])
async def test_a_closing_parent_treats_its_children_as_the_policy_says(
    env: WorkflowEnvironment, policy: ParentClosePolicy, status: ExecutionStatus, then: str
) -> None:
    await env.execute(Forgetful, policy, then)
    await env.settle()

    assert env.handle("child").status is status


async def test_a_cancelled_workflow_cleans_up_and_ends_cancelled(env: WorkflowEnvironment) -> None:
    handle = env.start(Sleeper)
    await env.settle()
    await handle.cancel("enough")
    with pytest.raises(CancelledError):
        await handle.result()

    assert handle.status is ExecutionStatus.CANCELED
    assert "ActivityTaskCompleted" in handle.event_types


async def test_a_terminated_workflow_is_not_asked(env: WorkflowEnvironment) -> None:
    handle = env.start(Sleeper)
    await env.settle()
    handle.terminate("enough")
    with pytest.raises(TerminatedError, match="enough"):
        await handle.result()

    assert "ActivityTaskScheduled" not in handle.event_types


async def test_continue_as_new_goes_on_under_the_same_id(env: WorkflowEnvironment) -> None:
    assert await env.execute(Counting, 2) == "workflow-run-2"
    assert len(env.runs["workflow"]) == 3


async def test_workflows_signal_and_cancel_each_other(env: WorkflowEnvironment) -> None:
    basket = env.start(Basket, workflow_id="basket")
    sleeper = env.start(Sleeper, workflow_id="sleeper")

    assert await env.execute(Courier, "basket", workflow_id="courier") == "delivered"
    assert await basket.result() == ["parcel"]
    await env.execute(Stopper, "sleeper", workflow_id="stopper")
    await env.settle()
    assert sleeper.status is ExecutionStatus.CANCELED


async def test_a_signal_to_nobody_is_a_failure_with_a_type(env: WorkflowEnvironment) -> None:
    assert await env.execute(Courier, "nobody") == "NoSuchExecution"


async def test_advance_lets_a_given_time_go_by(env: WorkflowEnvironment) -> None:
    handle = env.start(Sleeper)
    await env.advance(86_399)
    assert handle.status is ExecutionStatus.RUNNING

    await env.advance(1)
    assert await handle.result() == "slept"


async def test_waiting_for_what_never_comes_says_so(env: WorkflowEnvironment) -> None:
    env.start("Basket")
    with pytest.raises(StuckError, match="nothing is running"):
        await env.run_until(lambda: False)


async def test_an_activity_that_is_not_registered_is_tried_again() -> None:
    env = WorkflowEnvironment(Registry([Failing]))
    handle = env.start(Failing, 1)
    await env.settle()

    failure = handle.execution.running[1].state.last_failure
    assert failure is not None
    assert "fail is registered" in failure.message

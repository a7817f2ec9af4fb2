"""The retirement of a subnet starts and awaits a child execution for each pool of the subnet."""

from __future__ import annotations

import pytest

from core.domain.events import PoolDeleted, PoolRetired
from tests.support.node_harness import pool as pool_of
from tests.workflows.interpreter.script import Script
from tests.workflows.jobs.retirement.retirement_harness import (
    RetirementHarness,
    blue_pool,
    red_pool,
)
from workflows.jobs.retirement.retirement_values import (
    RemainingClaims,
    RetirementRequest,
    RetirementResult,
)
from workflows.jobs.retirement.subnet import SubnetRetirement
from workflows.model import events as ev
from workflows.model.payloads import to_payload
from workflows.model.policies import ExecutionStatus


async def test_a_subnet_without_pools_is_deleted_by_the_first_step(
    harness: RetirementHarness,
) -> None:
    await harness.create_subnet()
    handle = await harness.retire_subnet()

    assert await handle.result() == RetirementResult("deleted", 0.0)
    assert (await harness.node.read_ledger()).subnets == {}


async def test_a_subnet_is_deleted_after_the_last_of_its_pools(
    harness: RetirementHarness,
) -> None:
    await harness.create_subnet(blue_pool(), red_pool())
    await harness.add_pods("web-0")
    handle = await harness.retire_subnet()
    status = await harness.status(handle)
    # web-0 has an address of blue; red had no claim and is deleted.
    assert await harness.is_retiring_by_pool() == {"blue": True}
    assert (status["pools"], status["pool_names"], status["children"]) == (1, ["blue"], ["blue"])

    await harness.delete_pods("web-0")

    assert await handle.status() is ExecutionStatus.COMPLETED
    assert (await harness.node.read_ledger()).subnets == {}
    assert (
        await harness.environment.handle("retire/pool/blue").status() is ExecutionStatus.COMPLETED
    )
    assert await harness.count_events(PoolDeleted) == 2


async def test_cancelling_reinstates_the_subnet_and_its_remaining_pools(
    harness: RetirementHarness,
) -> None:
    await harness.create_subnet(blue_pool(), red_pool())
    await harness.add_pods("web-0")
    handle = await harness.retire_subnet()
    await handle.cancel()
    ledger = await harness.node.read_ledger()

    assert await handle.status() is ExecutionStatus.CANCELED
    assert not ledger.subnets["net"].retiring
    assert await harness.is_retiring_by_pool() == {"blue": False}
    assert await harness.environment.handle("retire/pool/blue").status() is ExecutionStatus.CANCELED


async def test_a_pool_that_retires_before_the_subnet_keeps_its_own_execution(
    harness: RetirementHarness,
) -> None:
    await harness.create_subnet(blue_pool(), red_pool())
    await harness.add_pods("web-0")
    pool_retirement = await harness.retire("blue")
    handle = await harness.retire_subnet()
    assert (await harness.status(handle))["children"] == []
    await handle.cancel()
    assert await harness.is_retiring_by_pool() == {"blue": True}
    await harness.delete_pods("web-0")

    assert (await pool_retirement.result()).state == "deleted"


async def test_a_pool_cannot_be_reinstated_while_its_subnet_retires(
    harness: RetirementHarness,
) -> None:
    await harness.create_subnet(blue_pool())
    await harness.add_pods("web-0")
    handle = await harness.retire_subnet()
    child = harness.environment.handle("retire/pool/blue")
    await child.cancel()
    assert await harness.is_retiring_by_pool() == {"blue": True}
    # The subnet has started a new child for the pool.
    assert (await harness.status(handle))["children"] == ["blue"]
    await harness.delete_pods("web-0")

    assert await handle.status() is ExecutionStatus.COMPLETED


async def test_the_subnet_and_its_pools_are_reinstated_at_the_deadline_if_requested(
    harness: RetirementHarness,
) -> None:
    await harness.create_subnet(blue_pool())
    await harness.add_pods("web-0")
    handle = await harness.retire_subnet(RetirementRequest("net", 600, at_deadline="reinstate"))
    await harness.environment.advance(601)

    assert (await handle.result()).state == "serving"
    assert await harness.is_retiring_by_pool() == {"blue": False}


async def test_a_subnet_with_more_pools_than_one_step_can_name_retires_all_pools(
    harness: RetirementHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    pools_named_max, pool_count = 3, 9
    monkeypatch.setattr("workflows.jobs.retirement.activities.POOLS_NAMED_MAX", pools_named_max)
    await harness.create_subnet(
        *(
            pool_of(f"p{number}", f"10.6.{number}.10-10.6.{number}.19", subnet="10.6.0.0/16")
            for number in range(pool_count)
        )
    )
    await harness.add_pods("web-0")
    handle = await harness.retire_subnet()
    assert await harness.is_retiring_by_pool() == {"p0": True}
    await harness.delete_pods("web-0")

    assert await handle.status() is ExecutionStatus.COMPLETED
    assert await harness.count_events(PoolRetired) == pool_count


async def test_a_cancellation_after_continue_as_new_reinstates_the_pools(
    harness: RetirementHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workflows.model.limits.HISTORY_EVENTS_SUGGEST", 30)
    await harness.create_subnet(blue_pool())
    await harness.add_pods("web-0")
    handle = await harness.retire_subnet()
    await harness.environment.advance(7_200)
    assert len(await harness.environment.runs("retire/subnet/net")) > 1
    assert (await harness.status(handle))["children"] == ["blue"]
    await handle.cancel()
    await harness.environment.advance(600)

    assert await harness.is_retiring_by_pool() == {"blue": False}


def test_a_cancellation_reinstates_a_pool_whose_child_is_still_starting() -> None:
    remaining = RemainingClaims("held", pool_count=1, pools=("blue",))
    # Activity 1 is the first step, activity 2 the reinstatement, child 1 the retirement of blue.
    script = Script(SubnetRetirement, ["net"])
    script.task()
    script.task(ev.ActivityTaskCompleted(1, to_payload(remaining, what="the result of a step")))
    (reinstate,) = script.task(ev.WorkflowExecutionCancelRequested())
    script.task(ev.ActivityTaskCompleted(2))
    (cancel,) = script.task(ev.ChildWorkflowExecutionStarted(1, "run"))

    assert isinstance(reinstate, ev.ActivityTaskScheduled)
    assert reinstate.activity_type == "retirement-reinstate"
    assert isinstance(cancel, ev.RequestCancelExternalWorkflowExecutionInitiated)
    assert cancel.workflow_id == "retire/pool/blue"

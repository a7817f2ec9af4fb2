"""A subnet is deleted with its pools: its retirement is the parent of theirs."""

from __future__ import annotations

import pytest

from core.domain.events import PoolDeleted, PoolRetired
from tests.support.node_harness import pool
from tests.workflows.interpreter.script import Script
from tests.workflows.jobs.retirement.retirement_harness import RetirementHarness, blue, red
from workflows.jobs.retirement import retirement_values
from workflows.jobs.retirement.retirement_values import RetirementRequest, RetirementResult
from workflows.jobs.retirement.subnet import SubnetRetirement
from workflows.model import events as ev
from workflows.model.policies import ExecutionStatus


async def test_a_subnet_without_pools_is_deleted_at_once(harness: RetirementHarness) -> None:
    await harness.subnet()
    handle = await harness.retire_subnet()

    assert await handle.result() == RetirementResult("deleted", 0.0)
    assert (await harness.node.read_ledger()).subnets == {}


async def test_a_subnet_is_deleted_after_the_last_of_its_pools(
    harness: RetirementHarness,
) -> None:
    await harness.subnet(blue(), red())
    await harness.pods("web-0")
    handle = await harness.retire_subnet()
    status = await harness.status(handle)
    assert await harness.retiring() == {"blue": True}
    assert (status["pools"], status["pool_names"], status["children"]) == (1, ["blue"], ["blue"])

    await harness.end("web-0")

    assert await handle.status() is ExecutionStatus.COMPLETED
    assert (await harness.node.read_ledger()).subnets == {}
    assert (
        await harness.environment.handle("retire/pool/blue").status() is ExecutionStatus.COMPLETED
    )
    assert await harness.events(PoolDeleted) == 2


async def test_cancelling_reinstates_the_subnet_and_the_pools_that_retired_with_it(
    harness: RetirementHarness,
) -> None:
    await harness.subnet(blue(), red())
    await harness.pods("web-0")
    handle = await harness.retire_subnet()
    await handle.cancel()
    ledger = await harness.node.read_ledger()

    assert await handle.status() is ExecutionStatus.CANCELED
    assert not ledger.subnets["net"].retiring
    assert await harness.retiring() == {"blue": False}
    assert await harness.environment.handle("retire/pool/blue").status() is ExecutionStatus.CANCELED


async def test_a_pool_that_was_retiring_before_keeps_its_own_retirement(
    harness: RetirementHarness,
) -> None:
    await harness.subnet(blue(), red())
    await harness.pods("web-0")
    pool_retirement = await harness.retire("blue")
    handle = await harness.retire_subnet()
    assert (await harness.status(handle))["children"] == []
    await handle.cancel()
    assert await harness.retiring() == {"blue": True}
    await harness.end("web-0")

    assert (await pool_retirement.result()).state == "deleted"


async def test_a_pool_cannot_be_reinstated_while_its_subnet_retires(
    harness: RetirementHarness,
) -> None:
    await harness.subnet(blue())
    await harness.pods("web-0")
    handle = await harness.retire_subnet()
    child = harness.environment.handle("retire/pool/blue")
    await child.cancel()
    assert await harness.retiring() == {"blue": True}
    assert (await harness.status(handle))["children"] == ["blue"], "another child continues"
    await harness.end("web-0")

    assert await handle.status() is ExecutionStatus.COMPLETED


async def test_after_the_deadline_the_subnet_and_its_pools_can_be_reinstated(
    harness: RetirementHarness,
) -> None:
    await harness.subnet(blue())
    await harness.pods("web-0")
    handle = await harness.retire_subnet(RetirementRequest("net", 600, "reinstate"))
    await harness.environment.advance(601)

    assert (await handle.result()).state == "serving"
    assert await harness.retiring() == {"blue": False}


async def test_a_limited_number_of_pools_have_a_child_execution_at_a_time(
    harness: RetirementHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retirement_values, "POOLS_NAMED_MAX", 3)
    monkeypatch.setattr("workflows.jobs.retirement.activities.POOLS_NAMED_MAX", 3)
    pools = [pool(f"p{n}", f"10.6.{n}.10-10.6.{n}.19", subnet="10.6.0.0/16") for n in range(9)]
    await harness.subnet(*pools)
    await harness.pods("web-0")
    handle = await harness.retire_subnet()
    assert list(await harness.retiring()) == ["p0"]
    await harness.end("web-0")

    assert await handle.status() is ExecutionStatus.COMPLETED
    assert await harness.events(PoolRetired) == 9


async def test_the_next_run_still_knows_its_children(
    harness: RetirementHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workflows.model.limits.HISTORY_EVENTS_SUGGEST", 30)
    await harness.subnet(blue())
    await harness.pods("web-0")
    handle = await harness.retire_subnet()
    await harness.environment.advance(7_200)
    assert len(await harness.environment.runs("retire/subnet/net")) > 1
    assert (await harness.status(handle))["children"] == ["blue"]
    await handle.cancel()
    await harness.environment.advance(600)

    assert await harness.retiring() == {"blue": False}


def test_a_pool_whose_child_is_starting_during_the_cancellation_is_reinstated() -> None:
    script = Script(SubnetRetirement, ["net"])
    script.task()
    script.task(ev.ActivityTaskCompleted(1, ["held", 0, [], 1, ["blue"]]))
    (reinstate,) = script.task(ev.WorkflowExecutionCancelRequested())
    script.task(ev.ActivityTaskCompleted(2))
    (cancel,) = script.task(ev.ChildWorkflowExecutionStarted(1, "run"))

    assert isinstance(reinstate, ev.ActivityTaskScheduled)
    assert reinstate.activity_type == "retirement-reinstate"
    assert isinstance(cancel, ev.RequestCancelExternalWorkflowExecutionInitiated)
    assert cancel.workflow_id == "retire/pool/blue"

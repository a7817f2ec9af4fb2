"""``start_update`` returns a handle at the requested stage, and the handle waits for the result."""

from __future__ import annotations

import pytest

from core.errors import CallRejected, DeadlineExceeded, ExecutionNotFound
from tests.support.engine_harness import EngineHarness, eventually, within
from workflows.api import workflow
from workflows.api.definitions import Registry
from workflows.engine.client.client import Client
from workflows.engine.client.handles import UpdateHandle, WorkflowHandle
from workflows.model.errors import ApplicationError
from workflows.model.policies import ExecutionStatus, UpdateStage


@workflow.defn(name="approval")
class Approval:
    def __init__(self) -> None:
        self.is_open = False

    @workflow.run
    async def run(self) -> None:
        await workflow.wait_condition(lambda: False)

    @workflow.signal
    def open_gate(self) -> None:
        self.is_open = True

    @workflow.update
    async def approve(self, who: str) -> str:
        await workflow.wait_condition(lambda: self.is_open)
        if who == "Mallory":
            raise ApplicationError("Mallory may not approve")
        return f"approved by {who}"

    @workflow.validator("approve")
    def check(self, who: str) -> None:
        if not who:
            raise ApplicationError("a name is needed")


REGISTRY = Registry([Approval])


async def _start_approval(engine: EngineHarness) -> WorkflowHandle:
    await engine.start_worker(registry=REGISTRY)
    return await engine.client.start(Approval, id="one")


async def test_start_update_returns_when_the_update_is_accepted(engine: EngineHarness) -> None:
    execution = await _start_approval(engine)

    approval = await within(execution.start_update(Approval.approve, "Ann"))
    assert "WorkflowExecutionUpdateAccepted" in await engine.event_types(execution)
    assert "WorkflowExecutionUpdateCompleted" not in await engine.event_types(execution)
    await execution.signal(Approval.open_gate)

    assert await within(approval.result()) == "approved by Ann"


async def test_the_handle_has_the_result_of_an_immediately_completed_update(
    engine: EngineHarness,
) -> None:
    execution = await _start_approval(engine)
    await execution.signal(Approval.open_gate)

    approval = await within(execution.start_update(Approval.approve, "Ann"))

    assert await within(approval.result()) == "approved by Ann"


async def test_an_admitted_update_waits_for_a_worker(engine: EngineHarness) -> None:
    execution = await engine.client.start(Approval, id="one")
    approval = await execution.start_update(
        Approval.approve, "Ann", wait_for_stage=UpdateStage.ADMITTED
    )
    with pytest.raises(DeadlineExceeded, match="no worker replied to update 'approve'"):
        await engine.client.start_update("one", "approve", "Bob", timeout_s=0.01)
    await engine.start_worker(registry=REGISTRY)
    await execution.signal(Approval.open_gate)

    assert await within(approval.result()) == "approved by Ann"


async def test_start_update_raises_for_a_rejected_update(
    engine: EngineHarness,
) -> None:
    execution = await _start_approval(engine)

    with pytest.raises(CallRejected, match="a name is needed"):
        await within(execution.start_update(Approval.approve, ""))
    admitted = await execution.start_update("approve", "", wait_for_stage=UpdateStage.ADMITTED)
    with pytest.raises(CallRejected, match="a name is needed"):
        await within(admitted.result())


async def test_waiting_for_the_result_raises_the_failure_of_the_handler(
    engine: EngineHarness,
) -> None:
    execution = await _start_approval(engine)

    approval = await within(execution.start_update(Approval.approve, "Mallory"))
    await execution.signal(Approval.open_gate)

    with pytest.raises(ApplicationError, match="Mallory may not approve"):
        await within(approval.result())


async def test_another_client_gets_the_result_after_the_first_worker_died(
    engine: EngineHarness,
) -> None:
    execution = await _start_approval(engine)
    await within(execution.start_update(Approval.approve, "Ann", update_id="first"))
    await engine.kill_worker(engine.workers[0])
    await engine.start_worker(registry=REGISTRY)
    await execution.signal(Approval.open_gate)

    async with Client(engine.store, engine.keys, name="other") as other:
        first: UpdateHandle[object] = other.handle("one").update_handle("first")
        second = await within(other.start_update("one", "approve", "Ann", update_id="first"))
        assert await within(first.result()) == "approved by Ann"
        assert await within(second.result()) == "approved by Ann"

    async def is_completed_once() -> bool:
        types = await engine.event_types(execution)
        return types.count("WorkflowExecutionUpdateCompleted") == 1

    assert await eventually(is_completed_once)


@pytest.mark.parametrize("update_id", ["", "chosen-by-the-caller"])
async def test_an_update_of_an_unknown_or_closed_execution_raises_not_found(
    engine: EngineHarness, update_id: str
) -> None:
    with pytest.raises(ExecutionNotFound, match="no open execution"):
        await engine.client.start_update("unknown", "approve", "Ann", update_id=update_id)
    execution = await _start_approval(engine)
    await execution.terminate()
    await engine.until_status("one", ExecutionStatus.TERMINATED)
    with pytest.raises(ExecutionNotFound, match="no open execution"):
        await engine.client.start_update("one", "approve", "Ann", update_id=update_id)

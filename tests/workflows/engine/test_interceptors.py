"""Interceptors can change client calls, requests of workflow code, and attempts of activities."""

from __future__ import annotations

import time

import pytest

from core.errors import CallRejected
from tests.support.engine_harness import EngineHarness, within
from workflows.api import activity, workflow
from workflows.api.context import Future
from workflows.api.definitions import Registry
from workflows.api.interceptors import (
    ActivityInbound,
    ExecuteActivityInput,
    ExecuteWorkflowInput,
    HandleMessageInput,
    Interceptor,
    StartActivityInput,
    WorkflowInbound,
    WorkflowOutbound,
)
from workflows.engine.client.client import Client
from workflows.engine.client.interceptors import (
    ClientInterceptor,
    ClientOutbound,
    EndWorkflowInput,
    SignalWorkflowInput,
    StartedRun,
    StartWorkflowInput,
)
from workflows.model.errors import ApplicationError, ForbiddenCallError
from workflows.testing.environment import WorkflowEnvironment

STEP = workflow.ActivityOptions(start_to_close_s=10, retry=workflow.RetryPolicy(maximum_attempts=2))


@activity.defn()
async def charge(cents: int) -> str:
    if cents < 0 and activity.info().attempt == 1:
        raise OSError("no connection")
    return f"charged {cents}"


@activity.defn()
def ship(item: str) -> str:
    return f"shipped {item}"


@workflow.defn(name="order")
class Order:
    def __init__(self) -> None:
        self.notes: list[str] = []

    @workflow.run
    async def run(self, item: str, cents: int) -> list[str]:
        await workflow.wait_condition(lambda: len(self.notes) == 2)
        charged = await workflow.execute_activity(charge, cents, options=STEP)
        return [*self.notes, charged, await workflow.execute_activity(ship, item, options=STEP)]

    @workflow.signal
    def note(self, text: str) -> None:
        self.notes.append(text)

    @workflow.query
    def count(self) -> int:
        return len(self.notes)

    @workflow.update
    async def add(self, text: str) -> int:
        self.notes.append(text)
        return len(self.notes)


class DoublePrice(WorkflowOutbound):
    def start_activity(self, request: StartActivityInput) -> Future[object]:
        if request.activity_type == "charge":
            request = request._replace(args=[2 * int(str(request.args[0]))])
        return super().start_activity(request)


class PoliteWorkflow(WorkflowInbound):
    def __init__(self, inner: WorkflowInbound) -> None:
        super().__init__(inner)
        self.signals = 0

    def init(self, outbound: WorkflowOutbound) -> None:
        super().init(DoublePrice(outbound))

    async def execute_workflow(self, call: ExecuteWorkflowInput) -> object:
        item, cents = call.args
        result: list[str] = await super().execute_workflow(call._replace(args=[f"a {item}", cents]))
        return [*result, f"{self.signals} signal"]

    async def handle_signal(self, message: HandleMessageInput) -> None:
        self.signals += 1
        await super().handle_signal(message._replace(args=[f"please {message.args[0]}"]))

    def handle_query(self, message: HandleMessageInput) -> object:
        return int(super().handle_query(message)) + 100

    def handle_update_validator(self, message: HandleMessageInput) -> None:
        if message.args == ["rude"]:
            raise ApplicationError("be polite")
        super().handle_update_validator(message)

    async def handle_update_handler(self, message: HandleMessageInput) -> object:
        return int(await super().handle_update_handler(message)) + 100


class AttemptRecorder(Interceptor):
    def __init__(self, name: str, steps: list[str]) -> None:
        self.name = name
        self.steps = steps

    def intercept_activity(self, inner: ActivityInbound) -> ActivityInbound:
        return _RecordedAttempts(inner, self.name, self.steps)


class _RecordedAttempts(ActivityInbound):
    def __init__(self, inner: ActivityInbound, name: str, steps: list[str]) -> None:
        super().__init__(inner)
        self.name = name
        self.steps = steps

    async def execute_activity(self, attempt: ExecuteActivityInput) -> object:
        step = f"{self.name}: {attempt.activity_type} {activity.info().attempt}"
        self.steps.append(step)
        try:
            return await super().execute_activity(attempt)
        except OSError as error:
            self.steps.append(f"{step}: {error}")
            raise


class PoliteInterceptor(Interceptor):
    workflow_inbound = PoliteWorkflow


async def test_workflow_interceptors_change_messages_and_requests() -> None:
    registry = Registry([Order], [charge, ship], interceptors=[PoliteInterceptor()])
    async with WorkflowEnvironment(registry, replays=True) as env:
        order = await env.start(Order, "lamp", 100)
        await order.signal(Order.note, "hurry")
        assert await order.query(Order.count) == 101, "the interceptor did not add 100"
        with pytest.raises(CallRejected, match="be polite"):
            await order.update(Order.add, "rude")
        assert await order.update(Order.add, "thanks") == 102

        assert await order.result() == [
            "please hurry", "thanks", "charged 200", "shipped a lamp", "1 signal"
        ]  # fmt: skip


async def test_the_first_interceptor_encloses_the_second_in_each_attempt() -> None:
    steps: list[str] = []
    interceptors = [AttemptRecorder("outer", steps), AttemptRecorder("inner", steps)]
    registry = Registry([Order], [charge, ship], interceptors=interceptors)
    async with WorkflowEnvironment(registry) as env:
        order = await env.start(Order, "lamp", -1)  # the first attempt to charge -1 cents fails
        await order.signal(Order.note, "hurry")
        await order.signal(Order.note, "thanks")
        await order.result()

    assert steps == [
        "outer: charge 1", "inner: charge 1",
        "inner: charge 1: no connection", "outer: charge 1: no connection",
        "outer: charge 2", "inner: charge 2",
        "outer: ship 1", "inner: ship 1",
    ]  # fmt: skip


def test_a_workflow_interceptor_that_reads_the_clock_is_rejected() -> None:
    class TimedWorkflow(WorkflowInbound):
        async def execute_workflow(self, call: ExecuteWorkflowInput) -> object:
            return time.time(), await super().execute_workflow(call)

    class TimedInterceptor(Interceptor):
        workflow_inbound = TimedWorkflow

    with pytest.raises(ForbiddenCallError, match=r"time\.time"):
        Registry([Order], [charge, ship], interceptors=[TimedInterceptor()])


class _AuditedCalls(ClientOutbound):
    def __init__(self, inner: ClientOutbound, calls: list[str]) -> None:
        super().__init__(inner)
        self.calls = calls

    async def start_workflow(self, start: StartWorkflowInput) -> StartedRun:
        self.calls.append(f"start {start.workflow_type} {start.workflow_id}")
        return await super().start_workflow(start._replace(args=[*start.args, 100]))

    async def signal_workflow(self, signal: SignalWorkflowInput) -> None:
        self.calls.append(f"signal {signal.signal}")
        await super().signal_workflow(signal._replace(args=[str(signal.args[0])[:5]]))

    async def terminate_workflow(self, end: EndWorkflowInput) -> None:
        raise PermissionError(f"{end.workflow_id}: {end.reason}")


class Audit(ClientInterceptor):
    def __init__(self) -> None:
        self.calls: list[str] = []

    def intercept_client(self, inner: ClientOutbound) -> ClientOutbound:
        return _AuditedCalls(inner, self.calls)


async def test_client_interceptors_change_and_refuse_calls(
    engine: EngineHarness,
) -> None:
    audit = Audit()
    await engine.start_worker(registry=Registry([Order], [charge, ship]))
    async with Client(engine.store, engine.keys, name="shop", interceptors=[audit]) as client:
        order = await client.start(Order, "lamp", id="order/1")
        with pytest.raises(PermissionError, match="order/1: enough"):
            await order.terminate("enough")
        await order.signal(Order.note, "hurry up")
        assert await order.update(Order.add, "thanks") == 2
        result = await within(order.result())

    assert result == ["hurry", "thanks", "charged 100", "shipped lamp"]
    assert audit.calls == ["start order order/1", "signal note"]

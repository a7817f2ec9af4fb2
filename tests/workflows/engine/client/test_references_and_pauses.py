"""Clients call handlers by method, set memos, pause executions, and list and count them."""

from __future__ import annotations

from collections import Counter
from itertools import chain
from typing import NamedTuple

import pytest

from core.errors import BadInput, CallRejected
from tests.support.engine_harness import EngineHarness
from workflows.api import workflow
from workflows.api.definitions import Registry, reference_to
from workflows.api.options import StartOptions
from workflows.engine.client.visibility import Filter
from workflows.model.policies import ExecutionStatus
from workflows.testing.environment import START_MS, WorkflowEnvironment


class Line(NamedTuple):
    item: str
    number: int


@workflow.defn(name="order")
class Order:
    def __init__(self) -> None:
        self.lines: list[Line] = []
        self.closed = False

    @workflow.run
    async def run(self) -> str:
        await workflow.wait_condition(lambda: self.closed)
        return str(workflow.info().memo.get("customer", ""))

    @workflow.signal
    def close(self) -> None:
        self.closed = True

    @workflow.query
    def newest(self) -> Line:
        return self.lines[-1]

    @workflow.update
    def add(self, line: Line) -> list[Line]:
        self.lines.append(line)
        return self.lines


REGISTRY = Registry([Order])


async def test_a_call_by_method_returns_the_declared_type() -> None:
    async with WorkflowEnvironment(REGISTRY, replays=True) as env:
        order = await env.start(Order)

        assert await order.update(Order.add, Line("lamp", 2)) == [Line("lamp", 2)]
        assert await order.query(Order.newest) == Line("lamp", 2)
        assert await order.query("newest") == ["lamp", 2]
        await order.signal(Order.close)

        assert await order.result() == ""


@pytest.mark.parametrize("method", [Order.add, Order.run, str.upper])
def test_a_method_that_is_not_a_signal_is_refused_as_a_signal(method: object) -> None:
    with pytest.raises(TypeError, match=r"is not decorated with @workflow\.signal"):
        reference_to(method, "signal")  # type: ignore[arg-type]


async def test_a_workflow_reads_the_memo_of_its_start() -> None:
    async with WorkflowEnvironment(REGISTRY) as env:
        options = StartOptions(memo={"customer": "Ann"})
        handle = await env.client.start(Order, id="order/1", options=options)
        await handle.signal(Order.close)

        assert await env.call(handle.result()) == "Ann"


async def test_a_paused_execution_handles_a_signal_after_it_is_unpaused() -> None:
    async with WorkflowEnvironment(REGISTRY, replays=True) as env:
        order = await env.start(Order)
        await env.settle()
        await order.pause("stock is counted")
        await order.signal(Order.close)

        head = await order.head()
        assert (head.status, head.reason) == (
            ExecutionStatus.PAUSED,
            "paused by client: stock is counted",
        )
        with pytest.raises(CallRejected, match="paused already"):
            await order.pause()
        await order.retry("counted")

        assert await order.result() == ""
        assert await order.event_types() == [
            "WorkflowExecutionStarted",
            "WorkflowExecutionPaused",
            "WorkflowExecutionSignaled",
            "WorkflowExecutionUnpaused",
            "WorkflowExecutionCompleted",
        ]


async def test_pages_list_each_execution_once_and_begin_with_the_newest() -> None:
    async with WorkflowEnvironment(REGISTRY) as env:
        for number in range(5):
            await env.client.start(Order, id=f"order/{number}")
            await env.advance(60 if number % 2 else 0)  # pairs start in the same millisecond
        await env.client.signal("order/0", Order.close)
        await env.settle()

        pages, after = [], ""
        while True:
            page = await env.visibility.page(after=after, size=2)
            pages.append([head.workflow_id for head in page.heads])
            if not (after := page.next):
                break

        assert sorted(chain.from_iterable(pages)) == [f"order/{number}" for number in range(5)]
        assert [len(page) for page in pages] == [2, 2, 1]
        assert pages[0][0] == "order/4"
        started_filter = Filter(started_ms=(START_MS + 60_000, START_MS + 120_000))
        assert {head.workflow_id for head in (await env.visibility.page(started_filter)).heads} == {
            "order/2",
            "order/3",
        }
        closed_filter = Filter(closed_ms=(0, START_MS + 3_600_000))
        assert [head.workflow_id for head in (await env.visibility.page(closed_filter)).heads] == [
            "order/0"
        ]
        assert await env.visibility.count() == Counter(
            {("order", ExecutionStatus.RUNNING): 4, ("order", ExecutionStatus.COMPLETED): 1}
        )


@pytest.mark.parametrize("text", ["one", "1", "/run", "one/run"])
async def test_a_text_that_is_not_a_page_token_is_rejected(
    engine: EngineHarness, text: str
) -> None:
    with pytest.raises(BadInput, match="is not a valid page token"):
        await engine.visibility.page(after=text)

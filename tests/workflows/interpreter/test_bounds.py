"""Workflow code that exceeds a limit gets an error with the name of the limit."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable

import pytest

from tests.workflows.interpreter.script import Script, timer
from workflows.api import workflow
from workflows.model import events as ev
from workflows.model import limits
from workflows.model.errors import WorkflowTaskError

MakeRequests = Callable[[int], Awaitable[object]]
"""Workflow code that makes the given number of requests of one kind."""


async def activities(count: int) -> None:
    for _ in range(count):
        workflow.start_activity("work", options=workflow.ActivityOptions(start_to_close_s=1))


async def timers(count: int) -> None:
    await workflow.gather(*(workflow.sleep(60) for _ in range(count)))


async def children(count: int) -> None:
    await workflow.gather(*(workflow.execute_child("Child") for _ in range(count)))


async def signals_to_others(count: int) -> None:
    other = workflow.external("Other", "other")
    await workflow.gather(*(other.signal("go") for _ in range(count)))


async def search_attributes(count: int) -> None:
    workflow.upsert_search_attributes({f"name-{number}": number for number in range(count)})


async def commands(count: int) -> None:
    for number in range(count):
        workflow.upsert_search_attributes({"Same": number})


def workflow_with(make_requests: MakeRequests, count: int) -> type:
    @workflow.defn(name="Requesting")
    class Requesting:
        @workflow.run
        async def run(self) -> None:
            await make_requests(count)
            await workflow.wait_condition(lambda: False)

    return Requesting


@pytest.mark.parametrize(
    ("name", "make_requests"),
    [
        ("PENDING_ACTIVITIES_MAX", activities),
        ("PENDING_TIMERS_MAX", timers),
        ("PENDING_CHILDREN_MAX", children),
        ("PENDING_EXTERNAL_MAX", signals_to_others),
        ("SEARCH_ATTRIBUTES_MAX", search_attributes),
        ("COMMANDS_MAX", commands),
    ],
)
def test_the_error_for_a_request_beyond_a_limit_names_the_limit(
    name: str, make_requests: MakeRequests
) -> None:
    limit = getattr(limits, name)
    Script(workflow_with(make_requests, limit)).task()

    with pytest.raises(WorkflowTaskError, match=name):
        Script(workflow_with(make_requests, limit + 1)).task()


@pytest.mark.parametrize("seconds", [math.inf, 1e300])
def test_the_error_for_a_timer_beyond_the_limit_names_the_limit(seconds: float) -> None:
    async def sleep(_: int) -> None:
        await timer(seconds)

    with pytest.raises(WorkflowTaskError, match="TIMER_S_MAX"):
        Script(workflow_with(sleep, 1)).task()


def test_the_number_of_signals_without_a_handler_is_limited() -> None:
    script = Script(workflow_with(activities, 1))
    signals = [ev.WorkflowExecutionSignaled("unhandled", ())] * limits.SIGNALS_BUFFERED_MAX
    script.task(*signals)

    with pytest.raises(WorkflowTaskError, match="SIGNALS_BUFFERED_MAX"):
        script.task(ev.WorkflowExecutionSignaled("unhandled", ()))

"""Code that changes during executions: patched, deprecate_patch, continue-as-new."""

from __future__ import annotations

import pytest

from tests.workflows.interpreter.script import Script, timer
from workflows.api import workflow
from workflows.api.definitions import Registry
from workflows.interpreter import Interpreter
from workflows.model import events as ev
from workflows.model.errors import NonDeterminismError

QUICK = workflow.ActivityOptions(start_to_close_s=5)


@workflow.defn(name="Versioned")
class Old:
    @workflow.run
    async def run(self) -> None:
        await workflow.execute_activity("old", options=QUICK)


@workflow.defn(name="Versioned")
class Patched:
    @workflow.run
    async def run(self) -> None:
        if workflow.patched("better"):
            await workflow.execute_activity("new", options=QUICK)
        else:
            await workflow.execute_activity("old", options=QUICK)


@workflow.defn(name="Versioned")
class Deprecated:
    @workflow.run
    async def run(self) -> None:
        workflow.deprecate_patch("better")
        await workflow.execute_activity("new", options=QUICK)


@workflow.defn(name="Versioned")
class New:
    @workflow.run
    async def run(self) -> None:
        await workflow.execute_activity("new", options=QUICK)


VERSIONS = [Old, Patched, Deprecated, New]


def test_each_version_replays_the_histories_of_its_predecessor() -> None:
    replays: dict[str, list[str]] = {}
    for author in VERSIONS:
        script = Script(author)
        script.task()
        script.task(ev.ActivityTaskCompleted(1))
        replays[author.__name__] = []
        for reader in VERSIONS:
            interpreter = Interpreter(Registry([reader]))
            try:
                interpreter.activate(script.history)
            except NonDeterminismError:
                continue
            replays[author.__name__].append(reader.__name__)

    # The author of a history -> the versions that can replay the history.
    assert replays == {
        "Old": ["Old", "Patched"],
        "Patched": ["Patched", "Deprecated"],
        "Deprecated": ["Patched", "Deprecated", "New"],
        "New": ["Deprecated", "New"],
    }


def test_the_first_result_of_patched_counts_for_the_whole_run() -> None:
    @workflow.defn(name="Loop")
    class Before:
        @workflow.run
        async def run(self) -> None:
            for _ in range(3):
                await timer(1)

    results: list[bool] = []

    @workflow.defn(name="Loop")
    class After:
        @workflow.run
        async def run(self) -> None:
            for _ in range(3):
                results.append(workflow.patched("p"))
                await timer(1)

    script = Script(Before)
    script.task()
    script.task(ev.TimerFired(1))
    # The next task replays the whole history with the new code.
    script.registry = Registry([After])
    script.interpreter, script.events_passed = Interpreter(script.registry), 0
    script.task(ev.TimerFired(2))

    assert results == [False, False, False]


def test_a_run_continues_as_new_with_its_search_attributes() -> None:
    @workflow.defn()
    class Growing:
        @workflow.run
        async def run(self, number: int) -> None:
            workflow.upsert_search_attributes({"pool": "a", "gone": None})
            workflow.continue_as_new(number + 1)

    script = Script(Growing, 1)
    commands = script.task()

    assert commands[-1] == ev.WorkflowExecutionContinuedAsNew(
        "Growing", (2,), "queue", {"pool": "a"}
    )
    assert script.replayed().closed


@pytest.mark.parametrize("suggested", [False, True])
def test_workflow_info_has_the_recorded_suggestion_to_continue_as_new(suggested: bool) -> None:
    @workflow.defn()
    class InfoReader:
        @workflow.run
        async def run(self) -> list[object]:
            info = workflow.info()
            return [info.is_continue_as_new_suggested(), info.history_events, info.workflow_id]

    script = Script(InfoReader)
    script.add(ev.WorkflowTaskStarted(suggest_continue_as_new=suggested))
    (done,) = script.interpreter.activate(script.history).commands

    assert done == ev.WorkflowExecutionCompleted([suggested, 2, "id"])

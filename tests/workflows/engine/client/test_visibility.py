"""``orbctl workflow`` shows, starts, signals and ends executions.

The workflow ``Chain`` runs an activity for each word, and is paused after three failed attempts.
``Sleeper`` sleeps a day and has the search attribute ``mood=sleepy``.
"""

from __future__ import annotations

import asyncio
import json

import pytest

from core.eventstore.etcd import EtcdSettings, EtcdStore
from core.eventstore.kv import Put
from core.eventstore.memory_store import MemoryStore
from ops.cli.exit_codes import Exit
from ops.cli.global_options import ProcessContext
from ops.cli.main import run
from tests.support.engine_harness import EngineHarness, eventually, within
from tests.support.engine_samples import Basket, Chain, Sleeper
from tests.support.etcd import EtcdCluster
from tests.support.faulty_store import UnclosedMemoryStore
from workflows.model.policies import ExecutionStatus


class WorkflowCliHarness:
    """Three executions: ``done`` is completed, ``asleep`` is running, ``stuck`` is paused."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.store = UnclosedMemoryStore()
        self.engine = EngineHarness(self.store)
        self._capsys = capsys
        asyncio.run(self._prepare())

    def orbctl(self, *arguments: str) -> tuple[int, str]:
        """Return the exit code and the output of ``orbctl workflow``."""
        line = ["--cluster", self.engine.keys.cluster, "workflow", *arguments]
        code = run(line, ProcessContext(open_store=lambda _: self.store))
        output = self._capsys.readouterr()
        return code, output.out + output.err

    def run_worker_until(self, workflow_id: str, status: ExecutionStatus) -> None:
        async def work() -> None:
            engine = EngineHarness(self.store)
            engine.keys = self.engine.keys
            engine.visibility = self.engine.visibility
            await engine.start_worker()
            await engine.until_status(workflow_id, status)
            await engine.close()

        asyncio.run(work())

    async def _prepare(self) -> None:
        engine = self.engine
        await engine.start_worker()
        await engine.run_workflow(Chain, ["a"], id="done")
        await engine.client.start(Sleeper, id="asleep")

        async def is_asleep() -> bool:
            return bool((await engine.head("asleep")).timers)

        await eventually(is_asleep)
        engine.activities.failures_left = 3  # all attempts of ``stuck`` fail
        await engine.client.start(Chain, ["b"], id="stuck")
        await within(engine.until_status("stuck", ExecutionStatus.PAUSED))
        await engine.close()


@pytest.fixture
def harness(capsys: pytest.CaptureFixture[str]) -> WorkflowCliHarness:
    return WorkflowCliHarness(capsys)


def test_a_list_shows_timers_and_failures_of_executions(
    harness: WorkflowCliHarness,
) -> None:
    code, output = harness.orbctl("list")

    assert code == 0
    assert "asleep" in output
    assert "1 timer" in output
    assert "b did not work" in output


def test_a_list_and_a_count_can_be_filtered(harness: WorkflowCliHarness) -> None:
    assert harness.orbctl("list", "--status", "paused", "-o", "name") == (0, "stuck\n")
    for condition in ("mood=sleepy", "mood>=s", "mood<t"):
        assert harness.orbctl("list", "--attribute", condition, "-o", "name") == (0, "asleep\n")
    for condition in ("mood>=t", "mood<5", "other<5"):
        assert harness.orbctl("list", "--attribute", condition, "-o", "name") == (0, "")
    assert harness.orbctl("list", "--attribute", "mood")[0] != 0
    _, counted = harness.orbctl("count", "--status", "Running", "--since", "1h")
    assert [line.split() for line in counted.splitlines()[1:]] == [["Sleeper", "Running", "1"]]
    assert "Sleeper" not in harness.orbctl("count", "--until", "1h")[1]
    assert harness.orbctl("list", "--status", "tired")[0] == Exit.USAGE


def test_a_list_names_unreadable_executions(harness: WorkflowCliHarness) -> None:
    key = harness.engine.client.keys.open("asleep")
    asyncio.run(_put(harness.store, key, b"dust"))
    code, output = harness.orbctl("list")

    assert code == 0
    assert "stuck" in output
    assert f"left out: open execution {key.decode()} cannot be used: " in output


async def _put(store: MemoryStore, key: bytes, value: bytes) -> None:
    await store.commit([], [Put(key, value)])


def test_a_description_says_why_an_execution_is_paused(harness: WorkflowCliHarness) -> None:
    code, output = harness.orbctl("describe", "stuck")

    assert code == 0
    assert "activity 1 failed in its last attempt, number 3: OSError: b did not work" in output
    assert "no worker owns its shard" in output


def test_a_history_lists_the_events_in_order(harness: WorkflowCliHarness) -> None:
    code, output = harness.orbctl("history", "done")
    lines = output.splitlines()

    assert code == 0
    assert lines[1].split()[0] == "1"
    assert "WorkflowExecutionStarted" in lines[1]
    assert "WorkflowExecutionCompleted" in lines[-1]


def test_a_history_can_be_printed_as_json(harness: WorkflowCliHarness) -> None:
    _, output = harness.orbctl("history", "done", "-o", "json")

    assert json.loads(output)["events"][0]["eventType"] == "WorkflowExecutionStarted"


def test_orbctl_retries_and_terminates_executions(harness: WorkflowCliHarness) -> None:
    assert harness.orbctl("retry", "stuck", "--reason", "repaired")[0] == 0
    harness.run_worker_until("stuck", ExecutionStatus.COMPLETED)
    assert harness.orbctl("terminate", "asleep", "--reason", "enough")[0] == 0
    harness.run_worker_until("asleep", ExecutionStatus.TERMINATED)
    assert "enough" in harness.orbctl("describe", "asleep")[1]


def test_a_reset_prints_the_new_run(harness: WorkflowCliHarness) -> None:
    code, output = harness.orbctl("reset", "done", "--event", "2")

    assert code == 0
    assert output.startswith("reset to new run ")


def test_a_second_start_of_an_open_execution_is_refused(harness: WorkflowCliHarness) -> None:
    code, output = harness.orbctl("start", "Chain", "new", '["a", "b"]')
    second_code, refusal = harness.orbctl("start", "Chain", "new", "[]")
    harness.run_worker_until("new", ExecutionStatus.COMPLETED)

    assert code == 0
    assert output.startswith("started run ")
    assert second_code != 0
    assert "is already open" in refusal


def test_the_error_for_an_unregistered_type_lists_the_registered_types(
    harness: WorkflowCliHarness,
) -> None:
    code, output = harness.orbctl("start", "bogus", "b1")

    assert code == Exit.REFUSED
    assert "no worker on task queue default has registered workflow type 'bogus'" in output
    assert "use one of Basket, Chain, " in output
    assert "b1" not in harness.orbctl("list")[1]


async def test_a_run_that_closes_during_a_list_is_listed_once() -> None:
    engine = EngineHarness(MemoryStore())
    await engine.start_worker()
    handle = await engine.client.start(Sleeper, id="asleep")
    listed: list[str] = []
    async for head in engine.visibility.heads():
        if not listed:
            await handle.terminate("enough")
            await engine.until_status("asleep", ExecutionStatus.TERMINATED)
        listed.append(head.run_id)
    await engine.close()
    assert listed == [handle.run_id]


@pytest.mark.etcd
async def test_queries_and_updates_print_the_replies_of_the_workflow(
    etcd: EtcdCluster, capsys: pytest.CaptureFixture[str]
) -> None:
    engine = EngineHarness(EtcdStore(EtcdSettings(etcd.endpoints)))
    await engine.start_worker()
    basket = await engine.client.start(Basket, id="basket")
    await basket.signal("put", "thing")

    async def orbctl(*arguments: str) -> tuple[int, str]:
        prefix = ["--etcd", etcd.endpoints[0], "--cluster", engine.keys.cluster, "workflow"]
        code = await asyncio.to_thread(run, [*prefix, *arguments], ProcessContext())
        output = capsys.readouterr()
        return code, output.out + output.err

    assert await orbctl("query", "basket", "count") == (0, "1\n")
    code, refusal = await orbctl("update", "basket", "take", "other")
    assert code != 0
    assert "no other here" in refusal
    assert await orbctl("update", "basket", "take", "thing", "--update-id", "same") == (0, "0\n")
    assert await orbctl("update", "basket", "take", "thing", "--update-id", "same") == (0, "0\n")
    await engine.close()
    await engine.store.close()


def test_signalling_an_unknown_execution_fails(harness: WorkflowCliHarness) -> None:
    code, output = harness.orbctl("signal", "unknown", "put", "thing")

    assert code == Exit.NOT_FOUND
    assert "workflow unknown has no open execution" in output

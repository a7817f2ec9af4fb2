"""``orbctl workflow`` on a cluster in memory, from list to terminate."""

from __future__ import annotations

import asyncio
import json

import pytest

from core.eventstore.etcd import EtcdSettings, EtcdStore
from core.eventstore.kv import Put
from core.eventstore.memory import MemoryStore
from ops.cli.exits import Exit
from ops.cli.global_options import ProcessContext
from ops.cli.main import run
from tests.support.etcd import EtcdCluster
from tests.workflows.engine.sample import Basket, Chain, Sleeper
from tests.workflows.engine.stage import Stage, eventually, within
from workflows.model.policies import ExecutionStatus


class KeptStore(MemoryStore):
    """Stays open when a run of orbctl closes it."""

    async def close(self) -> None:
        return


class Town:
    """A cluster with one execution that is done, one asleep and one paused."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.store = KeptStore()
        self.stage = Stage(self.store)
        self._capsys = capsys
        asyncio.run(self._play())

    def say(self, *arguments: str) -> tuple[int, str]:
        """One run of orbctl: its exit code and what it printed."""
        given = ["--cluster", self.stage.keys.cluster, "workflow", *arguments]
        code = run(given, ProcessContext(open_store=lambda _: self.store))
        said = self._capsys.readouterr()
        return code, said.out + said.err

    def work_until(self, workflow_id: str, status: ExecutionStatus) -> None:
        """Let a worker do what there is to do."""

        async def work() -> None:
            stage = Stage(self.store)
            stage.keys = self.stage.keys
            stage.visibility = self.stage.visibility
            await stage.worker()
            await stage.until_status(workflow_id, status)
            await stage.close()

        asyncio.run(work())

    async def _play(self) -> None:
        stage = self.stage
        await stage.worker()
        await stage.run(Chain, ["a"], id="done")
        await stage.client.start(Sleeper, id="asleep")

        async def asleep() -> bool:
            return bool((await stage.head("asleep")).timers)

        await eventually(asleep)
        stage.world.failures_left = 3
        await stage.client.start(Chain, ["b"], id="stuck")
        await within(stage.until_status("stuck", ExecutionStatus.PAUSED))
        await stage.close()


@pytest.fixture
def town(capsys: pytest.CaptureFixture[str]) -> Town:
    return Town(capsys)


def test_a_list_shows_every_execution_and_what_it_waits_for(town: Town) -> None:
    code, said = town.say("list")

    assert code == 0
    assert "asleep" in said
    assert "1 timer" in said
    assert "b did not work" in said


def test_a_list_can_be_narrowed(town: Town) -> None:
    assert town.say("list", "--status", "paused", "-o", "name") == (0, "stuck\n")
    assert town.say("list", "--attribute", "mood=sleepy", "-o", "name") == (0, "asleep\n")
    assert town.say("list", "--status", "tired")[0] == 2


def test_a_list_names_the_executions_that_it_cannot_show(town: Town) -> None:
    key = town.stage.client.keys.open("asleep")
    asyncio.run(_put(town.store, key, b"dust"))
    code, said = town.say("list")

    assert code == 0
    assert "stuck" in said
    assert f"left out: open execution {key.decode()} cannot be used: " in said


async def _put(store: MemoryStore, key: bytes, value: bytes) -> None:
    await store.commit([], [Put(key, value)])


def test_a_description_says_why_an_execution_is_paused(town: Town) -> None:
    code, said = town.say("describe", "stuck")

    assert code == 0
    assert "activity 1 failed in its last attempt, number 3: OSError: b did not work" in said
    assert "none has its shard now" in said


def test_a_history_is_a_timeline(town: Town) -> None:
    code, said = town.say("history", "done")
    lines = said.splitlines()

    assert code == 0
    assert lines[1].split()[0] == "1"
    assert "WorkflowExecutionStarted" in lines[1]
    assert "WorkflowExecutionCompleted" in lines[-1]


def test_a_history_as_json_is_a_fixture_for_the_replayer(town: Town) -> None:
    _, said = town.say("history", "done", "-o", "json")

    assert json.loads(said)["events"][0]["eventType"] == "WorkflowExecutionStarted"


def test_what_a_person_changes_reaches_the_execution(town: Town) -> None:
    assert town.say("retry", "stuck", "--reason", "repaired")[0] == 0
    town.work_until("stuck", ExecutionStatus.COMPLETED)
    assert town.say("terminate", "asleep", "--reason", "enough")[0] == 0
    town.work_until("asleep", ExecutionStatus.TERMINATED)
    assert "enough" in town.say("describe", "asleep")[1]


def test_a_reset_names_the_new_run(town: Town) -> None:
    code, said = town.say("reset", "done", "--event", "2")

    assert code == 0
    assert said.startswith("goes on in run ")


def test_an_execution_can_be_started_once(town: Town) -> None:
    code, said = town.say("start", "Chain", "new", '["a", "b"]')
    again, refusal = town.say("start", "Chain", "new", "[]")
    town.work_until("new", ExecutionStatus.COMPLETED)

    assert code == 0
    assert said.startswith("started run ")
    assert again != 0
    assert "belongs to an open execution" in refusal


def test_a_type_that_no_worker_has_is_refused_with_those_that_there_are(town: Town) -> None:
    code, said = town.say("start", "bogus", "b1")

    assert code == Exit.REFUSED
    assert "no worker of queue default has the workflow type 'bogus'" in said
    assert "use one of Basket, Chain, " in said
    assert "b1" not in town.say("list")[1]


@pytest.mark.etcd
async def test_queries_and_updates_print_what_the_code_answers(
    etcd: EtcdCluster, capsys: pytest.CaptureFixture[str]
) -> None:
    stage = Stage(EtcdStore(EtcdSettings(etcd.endpoints)))
    await stage.worker()
    basket = await stage.client.start(Basket, id="basket")
    await basket.signal("put", "thing")

    async def say(*arguments: str) -> tuple[int, str]:
        at = ["--etcd", etcd.endpoints[0], "--cluster", stage.keys.cluster, "workflow"]
        code = await asyncio.to_thread(run, [*at, *arguments], ProcessContext())
        said = capsys.readouterr()
        return code, said.out + said.err

    assert await say("query", "basket", "count") == (0, "1\n")
    refused, why = await say("update", "basket", "take", "other")
    assert refused != 0
    assert "no other here" in why
    assert await say("update", "basket", "take", "thing", "--update-id", "same") == (0, "0\n")
    assert await say("update", "basket", "take", "thing", "--update-id", "same") == (0, "0\n")
    await stage.close()
    await stage.store.close()


def test_nobody_cannot_be_signalled(town: Town) -> None:
    code, said = town.say("signal", "nobody", "put", "thing")

    assert code == 4
    assert "there is no open execution nobody" in said

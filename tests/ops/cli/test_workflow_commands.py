"""``orbctl workflow`` and ``orbctl schedule`` with a running worker on a real etcd."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from core.eventstore.etcd import EtcdSettings, EtcdStore
from core.eventstore.keys import Keys
from ops.cli.exit_codes import Exit
from tests.ops.cli.test_main import orbctl
from tests.support.etcd import EtcdCluster
from tests.support.yaml_reader import read_yaml
from workflows.api import workflow
from workflows.api.definitions import Registry
from workflows.engine.client.client import Client
from workflows.engine.worker.worker import Worker

pytestmark = pytest.mark.etcd


@workflow.defn(name="counter")
class Counter:
    """Counts updates until it is cancelled."""

    def __init__(self) -> None:
        self.count = 0

    @workflow.run
    async def run(self) -> None:
        await workflow.wait_condition(lambda: self.count < 0)

    @workflow.query
    def status(self) -> dict[str, int]:
        return {"count": self.count}

    @workflow.update
    async def add(self, number: int) -> int:
        self.count += number
        return self.count


class OrbctlWithWorker:
    """Runs orbctl as a process, while a worker of this process serves the cluster."""

    def __init__(self, etcd: EtcdCluster, cluster: str) -> None:
        self._variables = {
            "ORBWEAVER_ETCD_ENDPOINTS": etcd.endpoints[0],
            "ORBWEAVER_CLUSTER": cluster,
        }

    async def run(self, *arguments: str) -> str:
        """Return the standard output of a command that succeeds."""
        completed = await asyncio.to_thread(orbctl, *arguments, **self._variables)
        assert completed.returncode == Exit.OK, completed.stderr
        return completed.stdout

    async def fail(self, *arguments: str) -> tuple[int, str]:
        """Return the exit code and the standard error of a command that fails."""
        completed = await asyncio.to_thread(orbctl, *arguments, **self._variables)
        return completed.returncode, completed.stderr


@asynccontextmanager
async def serving(etcd: EtcdCluster, cluster: str) -> AsyncIterator[OrbctlWithWorker]:
    store, keys = EtcdStore(EtcdSettings(etcd.endpoints)), Keys(cluster)
    try:
        async with (
            Worker(store, keys, Registry([Counter]), name="worker"),
            Client(store, keys) as client,
        ):
            await client.start(Counter, id="one")
            yield OrbctlWithWorker(etcd, cluster)
    finally:
        await store.close()


async def test_the_answers_of_queries_and_updates_have_the_requested_format(
    etcd: EtcdCluster,
) -> None:
    async with serving(etcd, "formats") as program:
        update = ("workflow", "update", "one", "add", "2")
        assert read_yaml(await program.run(*update, "-o", "yaml")) == 2
        query = ("workflow", "query", "one", "status")
        assert await program.run(*query) == '{"count":2}\n'
        assert json.loads(await program.run(*query, "-o", "json")) == {"count": 2}
        assert read_yaml(await program.run(*query, "-o", "yaml")) == {"count": 2}
        assert await program.run(*query, "-o", "jsonpath={.count}") == "2"


async def test_a_schedule_without_an_id_is_refused(etcd: EtcdCluster) -> None:
    async with serving(etcd, "unnamed") as program:
        code, error = await program.fail("schedule", "create", "", "counter", "--every", "1h")

        assert (code, error.splitlines()[0]) == (Exit.USAGE, "error: '' is not a valid schedule id")


async def test_a_second_schedule_with_an_id_is_refused(etcd: EtcdCluster) -> None:
    async with serving(etcd, "twice") as program:
        create = ("schedule", "create", "often", "counter", "--every", "1h", "--paused")
        await program.run(*create)

        code, error = await program.fail(*create)

        assert code == Exit.FAILED
        assert error.splitlines()[0] == "error: schedule often exists already"


@pytest.mark.parametrize("event", [0, 99])
async def test_a_reset_to_an_event_that_the_history_lacks_is_refused(
    etcd: EtcdCluster, event: int
) -> None:
    async with serving(etcd, f"resets-{event}") as program:
        code, error = await program.fail("workflow", "reset", "one", "--event", str(event))

        assert code == Exit.USAGE
        assert f"has no event {event}: its history has the events 1 to " in error
        described = json.loads(await program.run("workflow", "describe", "one", "-o", "json"))
        assert described["status"] == "Running"
        assert described["run_id"] == described["first_run_id"]


async def test_the_yaml_of_a_schedule_equals_its_json(etcd: EtcdCluster) -> None:
    async with serving(etcd, "schedules") as program:
        await program.run("schedule", "create", "often", "counter", "--every", "1h", "--paused")
        describe = ("schedule", "describe", "often")

        described = json.loads(await program.run(*describe, "-o", "json"))

        assert read_yaml(await program.run(*describe, "-o", "yaml")) == described
        assert described["policy"]["overlap"] == "Skip"

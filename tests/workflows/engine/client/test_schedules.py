"""Another worker takes over the schedules of a stopped worker; orbctl manages schedules."""

from __future__ import annotations

import asyncio
import json

import pytest

from core.eventstore.etcd import EtcdSettings, EtcdStore
from ops.cli.exit_codes import Exit
from ops.cli.global_options import ProcessContext
from ops.cli.main import run
from tests.support.engine_harness import EngineHarness, eventually
from tests.support.etcd import EtcdCluster
from workflows.api import workflow
from workflows.api.definitions import Registry
from workflows.engine.client.schedules import Schedules
from workflows.model.policies import ExecutionStatus
from workflows.schedules.schedule import (
    Schedule,
    ScheduleAction,
    ScheduleDescription,
    ScheduleInterval,
    ScheduleSpec,
)


@workflow.defn(name="greeting")
class Greeting:
    @workflow.run
    async def run(self, name: str) -> str:
        return f"hello {name}"


REGISTRY = Registry([Greeting])


async def test_another_worker_takes_over_the_schedules_of_a_stopped_worker(
    engine: EngineHarness,
) -> None:
    schedules = Schedules(engine.client)
    often = ScheduleSpec((ScheduleInterval(1),))
    handle = await schedules.create("often", Schedule(ScheduleAction("greeting", ("Ann",)), often))
    first = await engine.start_worker(registry=REGISTRY)

    async def acted_times(times: int) -> ScheduleDescription | None:
        description = await handle.describe()
        return description if description.progress.actions >= times else None

    before = await eventually(lambda: acted_times(1))
    await first.close()
    await engine.start_worker(registry=REGISTRY)
    await eventually(lambda: acted_times(before.progress.actions + 1))
    await handle.pause()
    await handle.delete()
    await engine.until_status("schedule/often", ExecutionStatus.TERMINATED)

    # The id of an execution is the id of the schedule, "-", and the start time, for example
    # often-2026-11-30T03:00:00Z: the year begins with 2.
    started = [head async for head in engine.visibility.heads() if head.workflow_type == "greeting"]
    assert {head.workflow_id.startswith("often-2") for head in started} == {True}
    assert await schedules.list() == []


@pytest.mark.etcd
async def test_orbctl_creates_shows_changes_and_deletes_schedules(
    etcd: EtcdCluster, capsys: pytest.CaptureFixture[str]
) -> None:
    engine = EngineHarness(EtcdStore(EtcdSettings(etcd.endpoints)))
    await engine.start_worker(registry=REGISTRY)

    async def orbctl(*arguments: str) -> tuple[int, str]:
        global_options = ["--etcd", etcd.endpoints[0], "--cluster", engine.keys.cluster]
        code = await asyncio.to_thread(run, [*global_options, *arguments], ProcessContext())
        output = capsys.readouterr()
        return code, output.out + output.err

    create = ("schedule", "create", "nightly")
    daily = ("--cron", "0 3 * * *", "--overlap", "BufferOne", "--paused", "--note", "not yet")
    assert (await orbctl(*create, "bogus", "--every", "1h"))[0] == Exit.REFUSED
    wrong = await orbctl(*create, "greeting", "Ann", "--cron", "0 3")
    assert "cron expression '0 3'" in wrong[1]
    assert await orbctl(*create, "greeting", "Ann", *daily) == (0, "created\n")
    assert await orbctl("schedule", "trigger", "nightly") == (0, "triggered\n")

    async def has_acted() -> bool:
        _, output = await orbctl("schedule", "describe", "nightly", "-o", "json")
        return bool(json.loads(output)["progress"]["actions"])

    await eventually(has_acted)
    _, described = await orbctl("schedule", "describe", "nightly")
    assert "cron 0 3 * * *" in described
    assert "paused: not yet" in described
    assert await orbctl("schedule", "unpause", "nightly") == (0, "unpaused\n")

    async def is_listed() -> bool:
        return "03:00:00Z" in (await orbctl("schedule", "list"))[1]

    await eventually(is_listed)
    assert await orbctl("schedule", "delete", "nightly") == (0, "deleted\n")
    await engine.until_status("schedule/nightly", ExecutionStatus.TERMINATED)
    code, output = await orbctl("schedule", "pause", "nightly")
    assert (code, "schedule nightly does not exist" in output) == (Exit.NOT_FOUND, True)
    await engine.close()
    await engine.store.close()

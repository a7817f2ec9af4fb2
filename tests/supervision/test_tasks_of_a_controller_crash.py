"""A controller restarts each crashed task, and shuts down although a step of its shutdown fails."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from core.errors import LostRace
from core.eventstore.election import LeaderTerm
from core.eventstore.memory_store import MemoryStore
from core.process import supervision
from core.process.tcp_port import TcpPort
from ops.console.console_settings import ConsoleSettings
from ops.controller import daemon
from ops.controller.controller import Controller
from ops.controller.settings import ControllerSettings, load_settings
from tests.supervision.crashing_supervisor import CrashingSupervisor
from tests.support.deadlines import until

REPLICA_TASKS = ("projector", "observer", "election", "workflow-worker", "configuration-view")
"""Every controller runs these tasks, whether it leads or not."""

LEADER_TASKS = ("publisher", "execution-starter", "forecaster", "pod-listener", "pool-dispatcher")
"""The leader's tasks in a controller without Kubernetes."""


@pytest.fixture
def settings(tmp_path: Path) -> ControllerSettings:
    variables = {
        "SPIDERPOOL_POD_NAME": "c-1",
        "SPIDERPOOL_HEALTH_PORT": "0",
        "ORBWEAVER_ARCHIVE_DIR": str(tmp_path / "archive"),
        "ORBWEAVER_LEASE_TTL_SECONDS": "2",
    }
    return load_settings("/nonexistent/conf.yml", variables)._replace(health_port=0)


class RunningController:
    """A controller with the supervisors of its tasks."""

    def __init__(self, settings: ControllerSettings) -> None:
        self.supervisor, self.leader_supervisor = CrashingSupervisor(), CrashingSupervisor()
        self.controller = Controller(settings, MemoryStore(), supervisor=self.supervisor)
        self.controller.leader_supervisor = self.leader_supervisor
        self.stop = asyncio.Event()

    def start(self) -> None:
        self.work = asyncio.ensure_future(self.controller.run(self.stop))

    @property
    def faults(self) -> dict[str, str]:
        return {
            check.name: str(check.fault) for check in self.controller.health.ready() if check.fault
        }

    async def end(self) -> None:
        self.stop.set()
        await asyncio.wait({self.work})


@pytest.fixture
async def running(settings: ControllerSettings) -> AsyncIterator[RunningController]:
    running = RunningController(settings)
    running.start()
    await until(lambda: not running.faults)
    yield running
    await running.end()


@pytest.mark.parametrize("name", [*REPLICA_TASKS, *LEADER_TASKS])
async def test_a_crashed_task_of_a_controller_is_reported_and_restarted(
    running: RunningController, name: str
) -> None:
    supervisor = running.supervisor if name in REPLICA_TASKS else running.leader_supervisor
    term = running.controller.election.term

    supervisor.crash(name)
    await until(lambda: f"task/{name}" in running.faults)
    fault = running.faults[f"task/{name}"]
    await until(lambda: not running.faults)

    assert f"task {name} ended: ZeroDivisionError: a bug of {name}" in fault
    assert supervisor.start_counts[name] == 2
    assert not running.work.done()
    if name != "election":
        assert running.controller.election.term == term, "expected the same term of leadership"


async def test_a_crashed_console_is_restarted_and_the_controller_stays_ready(
    settings: ControllerSettings,
) -> None:
    console = ConsoleSettings(port=0, auth="none")
    running, console_supervisor = (
        RunningController(settings._replace(console=console)),
        CrashingSupervisor(),
    )
    running.controller.console_supervisor = console_supervisor
    running.start()
    console_host = running.controller.console
    assert console_host is not None
    await until(lambda: console_host.port is not None and not running.faults)

    console_supervisor.crash("console")
    await until(
        lambda: console_supervisor.start_counts["console"] == 2 and console_host.port is not None
    )

    assert not running.faults
    await running.end()
    assert running.controller.stop_failures == []


async def test_the_controller_exits_with_code_4_when_a_task_has_no_restarts_left(
    settings: ControllerSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervision, "BACKOFF_S_MAX", 0.001)

    async def fail(self: object) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr("core.projections.projector.Projector.run", fail)
    monkeypatch.setattr("core.eventstore.etcd.EtcdStore", lambda _: MemoryStore())

    code = await daemon._serve(settings, tracers=None)

    assert code == supervision.EXIT_TASK_ENDED == 4


async def test_a_new_term_begins_after_a_task_finds_that_leadership_was_lost(
    running: RunningController, monkeypatch: pytest.MonkeyPatch
) -> None:
    first_term = running.controller.election.term
    assert first_term is not None
    publish = running.controller.publisher.run
    calls: list[object] = []

    async def lose_leadership_once(fence: object) -> None:
        calls.append(fence)
        if len(calls) == 1:
            raise LostRace("leadership was lost")
        await publish(fence)  # type: ignore[arg-type]

    monkeypatch.setattr(running.controller.publisher, "run", lose_leadership_once)
    running.leader_supervisor.crash("publisher")
    await until(lambda: len(calls) == 2)
    await until(lambda: not running.faults)

    term: LeaderTerm | None = running.controller.election.term
    assert term is not None
    assert term.epoch > first_term.epoch


@pytest.mark.parametrize("failing_step", ["store", "jobs", "supervisor", "port"])
async def test_the_other_shutdown_steps_run_after_one_step_fails(
    settings: ControllerSettings, monkeypatch: pytest.MonkeyPatch, failing_step: str
) -> None:
    closed_targets: list[str] = []
    running = RunningController(settings)
    targets = {
        "store": (running.controller._store, "close"),
        "jobs": (running.controller.jobs, "close"),
        "supervisor": (running.supervisor, "close"),
        "port": (TcpPort, "close"),
    }
    for name, (target, method) in targets.items():
        close = getattr(target, method)

        async def record_close(*args: object, name: str = name, close: object = close) -> None:
            closed_targets.append(name)
            await close(*args)  # type: ignore[operator]
            if name == failing_step:
                raise OSError(28, "No space left on device")

        monkeypatch.setattr(target, method, record_close)
    running.start()
    await until(lambda: not running.faults)

    await running.end()

    assert running.work.exception() is None
    assert len(running.controller.stop_failures) == 1
    assert set(closed_targets) == set(targets)


async def test_all_tasks_end_and_the_store_closes_if_a_port_cannot_open(
    settings: ControllerSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail_to_open(*_: object) -> None:
        raise OSError(98, "Address in use")

    tasks_before = asyncio.all_tasks()
    store = MemoryStore()
    controller = Controller(settings, store)
    monkeypatch.setattr(TcpPort, "open", fail_to_open)

    with pytest.raises(OSError, match="Address in use"):
        await controller.run(asyncio.Event())

    assert asyncio.all_tasks() <= tasks_before
    assert store._closed
    assert controller.supervised() == []

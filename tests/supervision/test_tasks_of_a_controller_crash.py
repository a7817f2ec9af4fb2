"""Each task of a controller crashes, and each step of its start and stop fails."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from core.errors import LostRace
from core.eventstore.election import LeaderTerm
from core.eventstore.memory import MemoryStore
from core.process import supervision
from core.process.tcp_port import TcpPort
from ops.console.console_settings import ConsoleSettings
from ops.controller import daemon
from ops.controller.controller import Controller
from ops.controller.settings import ControllerSettings, load_settings
from tests.supervision.crashing import CrashingSupervisor
from tests.support.deadlines import until

OF_REPLICAS = ("projector", "observer", "election", "workflow-worker", "configuration-view")
OF_LEADERS = ("publisher", "execution-starter", "forecaster", "pod-listener", "pool-dispatcher")


@pytest.fixture
def settings(tmp_path: Path) -> ControllerSettings:
    variables = {
        "SPIDERPOOL_POD_NAME": "c-1",
        "SPIDERPOOL_HEALTH_PORT": "0",
        "ORBWEAVER_ARCHIVE_DIR": str(tmp_path / "archive"),
        "ORBWEAVER_LEASE_TTL_SECONDS": "2",
    }
    return load_settings("/nonexistent/conf.yml", variables)._replace(health_port=0)


class Running:
    """A running controller, and its exit."""

    def __init__(self, settings: ControllerSettings) -> None:
        self.supervisor, self.leading = CrashingSupervisor(), CrashingSupervisor()
        self.controller = Controller(settings, MemoryStore(), supervisor=self.supervisor)
        self.controller.leading = self.leading
        self.stop = asyncio.Event()
        self.work = asyncio.ensure_future(self.controller.run(self.stop))

    @property
    def faults(self) -> dict[str, str]:
        return {one.name: str(one.fault) for one in self.controller.health.ready() if one.fault}

    async def end(self) -> None:
        self.stop.set()
        await asyncio.wait({self.work})


@pytest.fixture
async def running(settings: ControllerSettings) -> AsyncIterator[Running]:
    one = Running(settings)
    await until(lambda: not one.faults)
    yield one
    await one.end()


@pytest.mark.parametrize("name", [*OF_REPLICAS, *OF_LEADERS])
async def test_a_task_of_a_controller_that_crashes_is_named_and_started_again(
    running: Running, name: str
) -> None:
    supervisor = running.supervisor if name in OF_REPLICAS else running.leading
    epoch = running.controller.election.term

    supervisor.crash(name)
    await until(lambda: f"task/{name}" in running.faults)
    fault = running.faults[f"task/{name}"]
    await until(lambda: not running.faults)

    assert f"task {name} ended: ZeroDivisionError: a bug of {name}" in fault
    assert supervisor.lives[name] == 2
    assert not running.work.done()
    if name != "election":
        assert running.controller.election.term == epoch, "nothing else was stopped"


async def test_a_console_that_crashes_is_started_again_and_no_reason_to_be_unready(
    settings: ControllerSettings,
) -> None:
    console = ConsoleSettings(port=0, auth="none")
    one = Running.__new__(Running)
    one.supervisor, one.leading, viewing = (CrashingSupervisor() for _ in range(3))
    one.controller = Controller(settings._replace(console=console), MemoryStore())
    one.controller.viewing = viewing
    one.stop = asyncio.Event()
    one.work = asyncio.ensure_future(one.controller.run(one.stop))
    host = one.controller.console
    assert host is not None
    await until(lambda: host.port is not None and not one.faults)

    viewing.crash("console")
    await until(lambda: viewing.lives["console"] == 2 and host.port is not None)

    assert not one.faults
    await one.end()
    assert one.controller.stop_failures == []


async def test_a_task_that_used_up_its_restarts_ends_the_controller_with_its_exit_code(
    settings: ControllerSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervision, "BACKOFF_S_MAX", 0.001)

    async def fail(self: object) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr("core.projections.projector.Projector.run", fail)
    monkeypatch.setattr("core.eventstore.etcd.EtcdStore", lambda _: MemoryStore())

    code = await daemon._serve(settings, None)

    assert code == supervision.EXIT_TASK_ENDED == 4


async def test_work_that_another_leader_overtook_ends_the_term(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = running.controller.election.term
    assert first is not None
    publish = running.controller.publisher.run
    calls: list[object] = []

    async def overtaken_once(fence: object) -> None:
        calls.append(fence)
        if len(calls) == 1:
            raise LostRace("the lead was lost")
        await publish(fence)  # type: ignore[arg-type]

    monkeypatch.setattr(running.controller.publisher, "run", overtaken_once)
    running.leading.crash("publisher")
    await until(lambda: len(calls) == 2)
    await until(lambda: not running.faults)

    term: LeaderTerm | None = running.controller.election.term
    assert term is not None
    assert term.epoch > first.epoch


@pytest.mark.parametrize("failing", ["store", "jobs", "supervisor", "port"])
async def test_a_step_of_the_end_that_fails_keeps_nothing_else_open(
    settings: ControllerSettings, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    closed: list[str] = []
    one = Running.__new__(Running)
    one.supervisor, one.leading = CrashingSupervisor(), CrashingSupervisor()
    one.controller = Controller(settings, MemoryStore(), supervisor=one.supervisor)
    one.controller.leading = one.leading
    targets = {
        "store": (one.controller._store, "close"),
        "jobs": (one.controller.jobs, "close"),
        "supervisor": (one.supervisor, "close"),
        "port": (TcpPort, "close"),
    }
    for name, (target, method) in targets.items():
        close = getattr(target, method)

        async def closing(*args: object, name: str = name, close: object = close) -> None:
            closed.append(name)
            await close(*args)  # type: ignore[operator]
            if name == failing:
                raise OSError(28, "No space left on device")

        monkeypatch.setattr(target, method, closing)
    one.stop = asyncio.Event()
    one.work = asyncio.ensure_future(one.controller.run(one.stop))
    await until(lambda: not one.faults)

    await one.end()

    assert one.work.exception() is None
    assert len(one.controller.stop_failures) == 1
    assert set(closed) == set(targets)


async def test_a_port_that_cannot_be_had_leaves_nothing_open(
    settings: ControllerSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def taken(*_: object) -> None:
        raise OSError(98, "Address in use")

    before = asyncio.all_tasks()
    store = MemoryStore()
    controller = Controller(settings, store)
    monkeypatch.setattr(TcpPort, "open", taken)

    with pytest.raises(OSError, match="Address in use"):
        await controller.run(asyncio.Event())

    assert asyncio.all_tasks() <= before
    assert store._closed
    assert controller.supervised() == []

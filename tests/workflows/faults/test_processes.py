"""Worker processes are killed at a commit or by an activity, or suspended and continued.

The workflows ``Chain`` and ``Steady`` return their words in upper case. ``Parent`` runs a ``Chain``
of a and b. ``Deadly`` runs an activity that kills the worker.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Self

import pytest

from core.eventstore.etcd import EtcdSettings, EtcdStore
from tests.support.counters import Counters
from tests.support.engine_harness import EngineHarness, eventually, within
from tests.support.engine_samples import Basket, Chain, Deadly, Parent, Steady
from tests.support.etcd import EtcdCluster
from tests.workflows.faults.conftest import check_histories
from workflows.model.policies import ExecutionStatus

pytestmark = pytest.mark.etcd

ROOT = Path(__file__).parents[3]
KILL_COMMITS = range(2, 8)
"""Numbers of the commits at which a worker process is killed."""

CERTAIN_COMMITS = 4
"""Every process makes at least this many of the commits ``KILL_COMMITS``."""

CONCURRENT_PROCESSES = 6


@pytest.fixture
async def engine(etcd: EtcdCluster) -> AsyncIterator[EngineHarness]:
    engine = _engine_on(etcd)
    yield engine
    await check_histories(engine)
    await engine.close()
    await engine.store.close()


def _engine_on(etcd: EtcdCluster) -> EngineHarness:
    return EngineHarness(EtcdStore(EtcdSettings(etcd.endpoints)))


class WorkerProcess:
    """A worker process. The end of the context kills the process."""

    def __init__(
        self, engine: EngineHarness, etcd: EtcdCluster, at: int = 0, moment: str = "-"
    ) -> None:
        module = "tests.workflows.faults.worker_process"
        self._arguments = ("-m", module, etcd.endpoints[0], engine.keys.cluster, str(at), moment)
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, *self._arguments, cwd=ROOT, stdout=asyncio.subprocess.PIPE
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()

    @property
    def process(self) -> asyncio.subprocess.Process:
        assert self._process is not None
        return self._process

    async def until_ready(self) -> None:
        """Wait until the process owns its shards."""
        assert self.process.stdout is not None
        assert await within(self.process.stdout.readline()) == b"ready\n"

    async def until_dead(self) -> int:
        """Return the signal that killed the process."""
        return -await within(self.process.wait())


async def _run_with_kill_at(
    etcd: EtcdCluster, at: int, moment: str, gate: asyncio.Semaphore
) -> bool:
    """Kill the first worker at commit ``at``; return whether there was a kill."""
    async with gate:
        engine = _engine_on(etcd)
        basket = await engine.client.signal_with_start(
            Basket, id="basket", signal="put", signal_args=["thing"]
        )
        chain = await engine.client.start(Chain, ["a", "b"], 0.01, id="chain")
        parent = await engine.client.start(Parent, "child", id="parent")
        await basket.signal("close")
        handles = [basket, chain, parent]
        results = asyncio.gather(*(handle.result() for handle in handles))
        async with WorkerProcess(engine, etcd, at, moment) as process:
            death = asyncio.ensure_future(process.until_dead())
            outcomes: set[asyncio.Future[Any]] = {death, results}
            await within(asyncio.wait(outcomes, return_when=asyncio.FIRST_COMPLETED))
            was_killed = death.done() and death.result() == signal.SIGKILL
            death.cancel()
        if was_killed:
            await engine.start_worker("next")
        assert await within(results) == [["thing"], ["A", "B"], ["A", "B"]]
        await check_histories(engine)
        await engine.close()
        await engine.store.close()
        Counters.kills += was_killed
        return was_killed


@pytest.mark.parametrize("moment", ["before", "after"])
async def test_executions_complete_after_a_process_is_killed_at_any_write(
    etcd: EtcdCluster, moment: str
) -> None:
    gate = asyncio.Semaphore(CONCURRENT_PROCESSES)
    killed = await asyncio.gather(
        *(_run_with_kill_at(etcd, at, moment, gate) for at in KILL_COMMITS)
    )

    assert all(killed[:CERTAIN_COMMITS])


async def test_a_suspended_process_that_was_replaced_changes_no_result_when_it_continues(
    engine: EngineHarness, etcd: EtcdCluster
) -> None:
    words = [str(number) for number in range(40)]
    async with WorkerProcess(engine, etcd) as process:
        await process.until_ready()
        handles = [
            await engine.client.start(Steady, words, 0.02, id=f"steady-{number}")
            for number in range(10)
        ]

        async def is_running() -> bool:
            return (await engine.head("steady-9")).next_event_id > 20

        await eventually(is_running)
        os.kill(process.process.pid, signal.SIGSTOP)
        await engine.start_worker("next")

        async def next_worker_runs() -> bool:
            return bool(engine.activities.calls)

        await eventually(next_worker_runs)
        # The suspended process still assumes that it owns shards.
        os.kill(process.process.pid, signal.SIGCONT)
        results = await within(asyncio.gather(*(handle.result() for handle in handles)))

    assert results == [words] * 10


async def test_an_activity_that_kills_its_processes_pauses_the_execution(
    engine: EngineHarness, etcd: EtcdCluster
) -> None:
    handle = await engine.client.start(Deadly, 2, id="deadly")
    for _ in range(2):
        async with WorkerProcess(engine, etcd) as poisoned:
            assert await poisoned.until_dead() == signal.SIGKILL
            Counters.kills += 1
    await engine.start_worker("survivor")
    head = await engine.until_status("deadly", ExecutionStatus.PAUSED)

    assert "lost in attempt 2" in head.reason
    assert "ActivityTaskCompleted" not in await engine.event_types(handle)

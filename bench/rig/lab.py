"""The environment of one run: directory, time budget, and the processes of measures.

A seed is etcd data that is written once in a run and copied for several measures.

Context managers stop every process that this module starts, and remove the directory.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from bench.rig.agent import AgentProcess
from bench.rig.daemon import PROJECT_ROOT
from bench.scale import Scale
from core.eventstore.etcd import EtcdSettings, EtcdStore
from core.eventstore.keys import Keys
from core.eventstore.kv import KeyValueStore
from tests.support.etcd import EtcdCluster

CLUSTER = "default"
DATA_PARENT = "/var/tmp"
"""Not /tmp, which may be in memory."""

CALLER_S_MAX = 300.0
"""Seconds until a program of ``bench.callers`` is ended."""

TICK_MS = 20
ELECTION_MS = 5 * TICK_MS
"""etcd accepts no shorter timeout. A starting member waits up to twice this time."""

ETCD_FLAGS = (f"--heartbeat-interval={TICK_MS}", f"--election-timeout={ELECTION_MS}")

T = TypeVar("T")
Filling = Callable[[KeyValueStore, Keys], Awaitable[None]]


class Lab:
    """Starts etcd, agents and callers for measures."""

    def __init__(self, scale: Scale) -> None:
        self.scale = scale
        self.keys = Keys(CLUSTER)
        self.directory = Path(tempfile.mkdtemp(prefix="ow-bench-", dir=DATA_PARENT))
        self._seeds: dict[str, Path] = {}
        self._counter = 0
        self._budget_ends = float("inf")
        self._shared: tuple[Callable[..., Any], Any] | None = None
        self._shared_stack = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self.end_shared()
        finally:
            shutil.rmtree(self.directory, ignore_errors=True)

    def shared(self, make: Callable[[Lab], AbstractContextManager[T]]) -> T:
        """Enter ``make(self)``, which starts processes for several measures; return its result.

        Repeated calls with the same ``make`` return the same result. A call with another ``make``
        first stops the processes of the previous one.
        """
        if self._shared is None or self._shared[0] is not make:
            self.end_shared()
            self._shared = make, self._shared_stack.enter_context(make(self))
        rig: T = self._shared[1]
        return rig

    def end_shared(self) -> None:
        """Stop the processes that ``shared`` started."""
        self._shared = None
        self._shared_stack.close()

    def set_time_budget(self, seconds: float) -> None:
        """Set the time budget of the rounds."""
        self._budget_ends = time.monotonic() + seconds

    @property
    def seconds_left(self) -> float:
        """The rest of the time budget, at least 0."""
        return max(0.0, self._budget_ends - time.monotonic())

    def rounds(self, count: int | None = None, least: int = 1) -> Iterator[int]:
        """Yield the numbers of ``count`` rounds (default: ``scale.rounds``), from 0 on.

        Stops when the time budget is used up and ``least`` rounds are done.
        """
        for number in range(count or self.scale.rounds):
            if number >= least and time.monotonic() > self._budget_ends:
                return
            yield number

    def report(self, text: str) -> None:
        """Print to standard error; standard output is for figures."""
        print(text, file=sys.stderr, flush=True)

    def new_directory(self, name: str) -> Path:
        """A new directory, with a short path: paths of sockets are limited to 107 bytes."""
        self._counter += 1
        path = self.directory / f"{self._counter}-{name}"
        path.mkdir()
        return path

    def etcd(self, seed: Path | None = None) -> EtcdCluster:
        """An etcd that syncs to disk, empty or with a copy of a seed. ``with`` starts the etcd."""
        directory = self.new_directory("etcd")
        if seed is not None:
            shutil.copytree(seed, directory / "etcd-0" / "data")
        return EtcdCluster(directory, flags=ETCD_FLAGS, durable=True)

    def seed(self, name: str, fill: Filling) -> Path:
        """The etcd data of this name; the first call for the name lets ``fill`` write the data."""
        if name not in self._seeds:
            directory = self.new_directory("seed")
            with EtcdCluster(directory, flags=ETCD_FLAGS) as cluster:
                self.fill(cluster, fill)
                cluster.stop()
            self._seeds[name] = directory / "etcd-0" / "data"
        return self._seeds[name]

    def agent(
        self, etcd: EtcdCluster, node: str = "node-0", variables: Mapping[str, str] = {}
    ) -> AgentProcess:
        """An agent. ``with`` starts the agent."""
        return AgentProcess(self.new_directory("agent"), etcd.endpoints[0], node, variables)

    def call(self, caller: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """Run a program of ``bench.callers``; return its report."""
        process = subprocess.run(
            [sys.executable, "-m", f"bench.callers.{caller}"],
            cwd=PROJECT_ROOT,
            input=json.dumps(parameters).encode(),
            stdout=subprocess.PIPE,
            timeout=CALLER_S_MAX,
            check=True,
        )
        report: dict[str, Any] = json.loads(process.stdout)
        return report

    @asynccontextmanager
    async def store(self, etcd: EtcdCluster) -> AsyncIterator[EtcdStore]:
        """An etcd client in this process."""
        store = EtcdStore(EtcdSettings(etcd.endpoints))
        try:
            yield store
        finally:
            await store.close()

    def fill(self, etcd: EtcdCluster, fill: Filling) -> None:
        """Let ``fill`` write to a running etcd."""
        asyncio.run(self._fill(etcd, fill))

    async def _fill(self, etcd: EtcdCluster, fill: Filling) -> None:
        async with self.store(etcd) as store:
            await fill(store, self.keys)

"""The lab of one run: its directory, its clock, and everything that measures start.

Promise: whatever is started here is ended when its context is left, and the directory is removed.
etcd syncs to disk unless it is only being seeded.
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
from bench.rig.daemon import ROOT
from bench.scale import Scale
from core.eventstore.etcd import EtcdSettings, EtcdStore
from core.eventstore.keys import Keys
from core.eventstore.kv import KeyValueStore
from tests.support.etcd import EtcdCluster

CLUSTER = "default"
DISK = "/var/tmp"
"""Where data lie: a disk by the file system standard, where the usual place may be memory."""

CALLER_S_MAX = 300.0

ELECTION_MS = 500
"""The least that etcd takes with its usual heartbeat. A single member that starts on data waits for
one or two of these, and a run starts some twenty.
"""

T = TypeVar("T")
Filling = Callable[[KeyValueStore, Keys], Awaitable[None]]


class Lab:
    """What measures start their parts with."""

    def __init__(self, scale: Scale) -> None:
        self.scale = scale
        self.keys = Keys(CLUSTER)
        self.directory = Path(tempfile.mkdtemp(prefix="ow-bench-", dir=DISK))
        self._seeds: dict[str, Path] = {}
        self._counter = 0
        self._share_ends = float("inf")
        self._shared: tuple[Callable[..., Any], Any] | None = None
        self._shared_ends = ExitStack()

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
        """What ``make`` starts, or has started for a measure before; ``end_shared`` ends it."""
        if self._shared is None or self._shared[0] is not make:
            self.end_shared()
            self._shared = make, self._shared_ends.enter_context(make(self))
        found: T = self._shared[1]
        return found

    def end_shared(self) -> None:
        """No further measure wants what has been shared."""
        self._shared = None
        self._shared_ends.close()

    def begin_share(self, seconds: float) -> None:
        """The next measure may use so much time; its rounds end then."""
        self._share_ends = time.monotonic() + seconds

    def rounds(self, count: int | None = None) -> Iterator[int]:
        """Numbers of repetitions: at least one, as many as wanted, fewer when time is up."""
        for number in range(count or self.scale.rounds):
            if number and time.monotonic() > self._share_ends:
                return
            yield number

    def say(self, text: str) -> None:
        """Tell the person at the terminal; standard output is for figures."""
        print(text, file=sys.stderr, flush=True)

    def room(self, name: str) -> Path:
        """A new directory; its path is short, because sockets lie in it."""
        self._counter += 1
        path = self.directory / f"{self._counter}-{name}"
        path.mkdir()
        return path

    def etcd(self, seed: Path | None = None) -> EtcdCluster:
        """One member with syncing, empty or on a copy of a seed; enter it to start it."""
        room = self.room("etcd")
        if seed is not None:
            shutil.copytree(seed, room / "etcd-0" / "data")
        return EtcdCluster(room, flags=[f"--election-timeout={ELECTION_MS}"], durable=True)

    def seed(self, name: str, fill: Filling) -> Path:
        """The data directory that ``fill`` leaves; made once per run."""
        if name not in self._seeds:
            room = self.room("seed")
            with EtcdCluster(room) as cluster:
                self.fill(cluster, fill)
                cluster.stop()
            self._seeds[name] = room / "etcd-0" / "data"
        return self._seeds[name]

    def agent(
        self, etcd: EtcdCluster, node: str = "node-0", variables: Mapping[str, str] = {}
    ) -> AgentProcess:
        """An agent; enter it to start it."""
        return AgentProcess(self.room("agent"), etcd.endpoints[0], node, variables)

    def call(self, caller: str, order: Mapping[str, Any]) -> dict[str, Any]:
        """Run a process of ``bench.callers`` with an order; returns its report."""
        done = subprocess.run(
            [sys.executable, "-m", f"bench.callers.{caller}"],
            cwd=ROOT,
            input=json.dumps(order).encode(),
            stdout=subprocess.PIPE,
            timeout=CALLER_S_MAX,
            check=True,
        )
        report: dict[str, Any] = json.loads(done.stdout)
        return report

    @asynccontextmanager
    async def store(self, etcd: EtcdCluster) -> AsyncIterator[EtcdStore]:
        """A client of our own."""
        store = EtcdStore(EtcdSettings(etcd.endpoints))
        try:
            yield store
        finally:
            await store.close()

    def fill(self, etcd: EtcdCluster, fill: Filling) -> None:
        """Put something into a running etcd."""
        asyncio.run(self._fill(etcd, fill))

    async def _fill(self, etcd: EtcdCluster, fill: Filling) -> None:
        async with self.store(etcd) as store:
            await fill(store, self.keys)

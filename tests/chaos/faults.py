"""Executes the faults of a plan on processes, links, keys and pools."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, NamedTuple

from tests.chaos.etcd_client import Entry, Etcd
from tests.chaos.garbage import (
    GARBAGE_VALUES,
    KEYS_ROOT,
    ORPHANED_KEYS,
    OVERWRITTEN_KEYS,
    VALID_COPY,
)
from tests.chaos.plan import AGENT, CONTROLLER, ETCD, Fault
from tests.chaos.pools import Operator
from tests.chaos.processes import Daemon
from tests.chaos.proxy import Link
from tests.support.etcd import EtcdCluster

SUPERVISE_S: Final = 0.3
WORKFLOW_DEPTH: Final = 3
"""The first three parts of a workflow's key are its kind: workflow/<queue>/<kind>."""


class ExecutedFault(NamedTuple):
    """A fault that is over.

    ``name`` is the name of an agent or controller, ``ETCD`` or "pool". ``over_at`` is the monotonic
    time of the end.
    """

    kind: str
    name: str
    over_at: float


class Injector:
    """Executes faults.

    ``exits`` counts unexpected exits by process and code, ``garbage`` counts writes by kind.
    """

    def __init__(
        self,
        cluster: EtcdCluster,
        agents: Sequence[Daemon],
        controllers: Sequence[Daemon],
        etcd: Etcd,
        operator: Operator,
    ) -> None:
        self.executed: list[ExecutedFault] = []
        self.exits: Counter[str] = Counter()
        self.garbage: Counter[str] = Counter()
        self._cluster = cluster
        self._agents = agents
        self._daemons = [*agents, *controllers]
        self._controllers = controllers
        self._etcd = etcd
        self._operator = operator
        self._written: dict[str, tuple[Entry, bytes | None]] = {}
        """Key -> garbage, and the value before the garbage (None: the key did not exist)."""

        self._member_locks = [asyncio.Lock() for _ in cluster.members]

    async def run(self, plan: Sequence[Fault]) -> None:
        """Execute every fault at its time; return when all are over."""
        began = time.monotonic()
        tasks = []
        for fault in plan:
            await asyncio.sleep(max(began + fault.at_s - time.monotonic(), 0))
            tasks.append(asyncio.ensure_future(self._execute(fault)))
        await asyncio.gather(*tasks)

    async def supervise(self) -> None:
        """Restart processes that exited, as a DaemonSet does, until cancelled."""
        while True:
            for daemon in self._daemons:
                code = daemon.poll_exit_code()
                if code is not None:
                    self.exits[f"{daemon.name} exit {code}"] += 1
                    daemon.launch()
            await asyncio.sleep(SUPERVISE_S)

    async def end_all_faults(self) -> None:
        for daemon in self._daemons:
            for link in daemon.links:
                link.heal()
            daemon.paused_until = 0.0
            daemon.resume()
            daemon.set_clock_error(0.0)
            if not daemon.should_run:
                daemon.launch()
        for key in tuple(self._written):
            await self._remove_garbage(key)

    async def _execute(self, fault: Fault) -> None:
        name = await self._action(fault)(fault)
        self.executed.append(ExecutedFault(fault.kind, name, time.monotonic()))

    def _action(self, fault: Fault) -> Callable[[Fault], Awaitable[str]]:
        actions: dict[str, Callable[[Fault], Awaitable[str]]] = {
            f"kill-{ETCD}": self._kill_etcd,
            f"pause-{ETCD}": self._pause_etcd,
            f"kill-{AGENT}": self._kill,
            f"kill-{CONTROLLER}": self._kill,
            f"pause-{AGENT}": self._pause,
            f"pause-{CONTROLLER}": self._pause,
            "garbage": self._inject_garbage,
            "pool": self._change_pool,
            "clock": self._set_clock,
        }
        return actions.get(fault.kind, self._disturb_links)

    def _daemon(self, fault: Fault) -> Daemon:
        if fault.kind.endswith(AGENT):
            return self._agents[fault.target]
        if fault.kind.endswith(CONTROLLER):
            return self._controllers[fault.target]
        return self._daemons[fault.target]

    async def _kill(self, fault: Fault) -> str:
        daemon = self._daemon(fault)
        daemon.kill()
        await asyncio.sleep(fault.duration_s)
        if not daemon.should_run:
            daemon.launch()
        return daemon.name

    async def _pause(self, fault: Fault) -> str:
        daemon = self._daemon(fault)
        daemon.pause(fault.duration_s)
        await asyncio.sleep(fault.duration_s)
        daemon.resume()
        return daemon.name

    async def _kill_etcd(self, fault: Fault) -> str:
        member = self._cluster.members[fault.target]
        async with self._member_locks[fault.target]:
            await asyncio.to_thread(member.kill)
            await asyncio.sleep(fault.duration_s)
            await asyncio.to_thread(self._cluster.restart, member)
        return ETCD

    async def _pause_etcd(self, fault: Fault) -> str:
        member = self._cluster.members[fault.target]
        async with self._member_locks[fault.target]:
            await asyncio.to_thread(member.pause)
            await asyncio.sleep(fault.duration_s)
            member.resume()
        return ETCD

    async def _disturb_links(self, fault: Fault) -> str:
        daemon = self._daemon(fault)
        for link in daemon.links:
            _disturb_link(link, fault)
        if fault.duration_s:
            await asyncio.sleep(fault.duration_s)
            for link in daemon.links:
                link.heal()
        return daemon.name

    async def _inject_garbage(self, fault: Fault) -> str:
        keys = [await self._write_garbage(kind) for kind in fault.detail.split(",")]
        await asyncio.sleep(fault.duration_s)
        for key in keys:
            await self._remove_garbage(key)
        return ETCD

    async def _write_garbage(self, detail: str) -> str:
        """Write garbage; return the key, or "" if no key to overwrite or copy exists."""
        kind, _, value = detail.partition("/")
        if kind in ORPHANED_KEYS:
            key = await self._write_orphaned(f"{KEYS_ROOT}/{ORPHANED_KEYS[kind]}", value)
        else:
            key = await self._overwrite(
                f"{KEYS_ROOT}/{OVERWRITTEN_KEYS[kind]}", GARBAGE_VALUES[value]
            )
        if key:
            self.garbage[detail] += 1
        return key

    async def _write_orphaned(self, key: str, value: str) -> str:
        data = GARBAGE_VALUES[value] if value != VALID_COPY else await self._value_like(key)
        if data is None:
            return ""
        revision = await self._etcd.put(key, data)
        self._written[key] = Entry(key, data, revision), None
        return key

    async def _value_like(self, orphaned: str) -> bytes | None:
        kind = orphaned.removeprefix(f"{KEYS_ROOT}/").split("/")
        depth = WORKFLOW_DEPTH if kind[0] == "workflow" else 1
        for entry in await self._etcd.entries(f"{KEYS_ROOT}/{'/'.join(kind[:depth])}/", limit=2):
            if entry.key != orphaned:
                return entry.value
        return None

    async def _overwrite(self, prefix: str, data: bytes) -> str:
        for entry in await self._etcd.entries(prefix, limit=1):
            if entry.key not in self._written and await self._etcd.replace(entry, data):
                garbage = Entry(entry.key, data, revision=0)  # the revision is not used
                self._written[entry.key] = garbage, entry.value
                return entry.key
        return ""

    async def _remove_garbage(self, key: str) -> None:
        """Remove the garbage, unless a process has written the key since."""
        written = self._written.pop(key, None)
        if written is None:
            return
        garbage, original = written
        for entry in await self._etcd.entries(key, limit=1):
            if entry.key == key and entry.value == garbage.value:
                await self._etcd.replace(entry, original)

    async def _change_pool(self, fault: Fault) -> str:
        with contextlib.suppress(OSError):
            await self._operator.change(fault.detail, fault.target)
        return "pool"

    async def _set_clock(self, fault: Fault) -> str:
        daemon = self._daemon(fault)
        daemon.set_clock_error(fault.size)
        return daemon.name


def _disturb_link(link: Link, fault: Fault) -> None:
    match fault.kind:
        case "delay":
            link.delay(fault.size)
        case "stall":
            link.stall()
        case "cut":
            link.cut()
        case "cut-in-message":
            link.cut_in_message(int(fault.size))
        case "half-open":
            link.half_open()
        case "refuse":
            link.refuse()
        case _:
            raise AssertionError(fault)

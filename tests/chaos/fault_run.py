"""One run: start all processes, inject faults while Pods change, quiesce, and check."""

from __future__ import annotations

import asyncio
import ipaddress
import time
import urllib.request
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Final, NamedTuple

from tests.chaos import processes
from tests.chaos.callers import Caller
from tests.chaos.checker import Evidence, Violation, check
from tests.chaos.etcd_client import Etcd
from tests.chaos.faults import Injector
from tests.chaos.garbage import GARBAGE_KINDS, KEYS_ROOT
from tests.chaos.history import read_export
from tests.chaos.plan import ETCD, Options, draw_plan
from tests.chaos.pods import Node
from tests.chaos.pools import Operator
from tests.chaos.processes import Daemon
from tests.chaos.proxy import Link
from tests.support.etcd import EtcdCluster, free_ports

READY_S: Final = 60.0
"""Time limit from the start of the processes until all processes serve."""

RECOVER_S: Final = 90.0
"""Time limit for all processes to serve again, and then for controllers to retire a new pool."""

FINISH_S: Final = 240.0
"""Time limit from the end of the faults until all callers have deleted their Pods."""

GC_TRIES: Final = 5
POLL_S: Final = 0.5
PROBE_S: Final = 2.0
PRINTED_CHARACTERS: Final = 2_000


class Outcome(NamedTuple):
    options: Options
    counts: Counter[str]
    faults: Counter[str]
    garbage: Counter[str]
    recoveries: list[float]
    """Seconds from the end of each fault to the next successful ADD on an affected node."""

    exits: Counter[str]
    tracebacks: dict[str, int]
    events: int
    violations: list[Violation]


class Run:
    def __init__(self, options: Options, directory: Path) -> None:
        self.options = options
        self.directory = directory
        self.cluster = EtcdCluster(directory / "etcd", size=options.members)
        self.violations: list[Violation] = []
        self.links: list[Link] = []
        endpoints = self.cluster.endpoints
        agents = range(options.agents)
        self.agents = [processes.agent(number, directory, self._links()) for number in agents]
        self.controllers = [
            processes.controller(number, directory, self._links())
            for number in range(options.controllers)
        ]
        self.etcd = Etcd(endpoints)
        archive = directory / "archive"
        archive.mkdir()
        self.operator = Operator(endpoints, archive)
        self.nodes = [
            Node(number, directory, Caller(agent.socket_path), self.etcd, options.seed)
            for number, agent in enumerate(self.agents)
        ]
        self.injector = Injector(
            self.cluster, self.agents, self.controllers, self.etcd, self.operator
        )

    def _links(self) -> list[Link]:
        links = [
            Link(port, endpoint)
            for port, endpoint in zip(
                free_ports(self.options.members), self.cluster.endpoints, strict=True
            )
        ]
        self.links += links
        return links

    @asynccontextmanager
    async def started(self) -> AsyncIterator[None]:
        """Start all processes, wait until they serve, and stop them on exit."""
        with self.cluster:
            supervising = None
            try:
                for link in self.links:
                    await link.open()
                await self.operator.set_up()
                for daemon in (*self.agents, *self.controllers):
                    daemon.launch()
                await self._until_serving(READY_S)
                supervising = asyncio.ensure_future(self.injector.supervise())
                yield
            finally:
                if supervising is not None:
                    supervising.cancel()
                for daemon in (*self.agents, *self.controllers):
                    daemon.kill()
                for link in self.links:
                    await link.close()
                await self.etcd.close()

    async def inject_faults(self) -> None:
        """Execute the plan while Pods are added and deleted; then end all faults."""
        clocks = bool(processes.find_faketime())
        plan = draw_plan(self.options, GARBAGE_KINDS, clocks=clocks)
        slots = [
            asyncio.ensure_future(node.run_slot(slot))
            for node in self.nodes
            for slot in range(self.options.callers)
        ]
        began = time.monotonic()
        await self.injector.run(plan)
        await asyncio.sleep(max(began + self.options.seconds - time.monotonic(), 0))
        await self.injector.end_all_faults()
        for node in self.nodes:
            node.is_ending = True
        _, late_slots = await asyncio.wait(slots, timeout=FINISH_S)
        for slot in late_slots:
            slot.cancel()
        for result in await asyncio.gather(*slots, return_exceptions=True):
            if isinstance(result, Exception):
                raise result
        if late_slots:
            text = f"{len(late_slots)} callers still run {FINISH_S:g} s after the last fault"
            self._add_violation("no-recovery", text)

    async def quiesce(self) -> None:
        """Wait until every process serves. Then run GC for sandboxes deleted without a DEL."""
        await self._until_serving(RECOVER_S)
        if not await self.operator.can_retire_a_pool(RECOVER_S):
            text = f"the controllers do not retire a new pool within {RECOVER_S:g} s"
            self._add_violation("no-recovery", text)
        for node in self.nodes:
            for _ in range(GC_TRIES):
                if (await node.run_gc()).code == 0:
                    break
                await asyncio.sleep(POLL_S)
            else:
                self._add_violation(
                    "no-recovery", f"GC of node {node.number} fails: {node.calls[-1].reply}"
                )

    async def check_log(self) -> Outcome:
        """Export and check the log."""
        path = self.directory / "export.jsonl"
        code, printed = await self.operator.orbctl("export", str(path))
        assert code == 0, printed
        with path.open() as lines:
            events = list(read_export(lines))
        calls = [call for node in self.nodes for call in node.calls]
        calls.sort(key=lambda call: call.revision_before)
        living = {
            container: addresses
            for node in self.nodes
            for container, addresses in node.living.items()
        }
        evidence = Evidence(calls, living, await self._claim_keys())
        self.violations += check(events, evidence)
        code, printed = await self.operator.orbctl("verify")
        if code != 0:
            self._add_violation(
                "verify", f"orbctl verify exits {code}: {printed[-PRINTED_CHARACTERS:]}"
            )
        return self._outcome(len(events))

    async def _claim_keys(self) -> frozenset[str]:
        addresses = set()
        for entry in await self.etcd.entries(f"{KEYS_ROOT}/ip/"):
            family, _, value = entry.key.removeprefix(f"{KEYS_ROOT}/ip/").partition("/")
            kind = ipaddress.IPv4Address if family == "4" else ipaddress.IPv6Address
            addresses.add(str(kind(int(value, 16))))
        return frozenset(addresses)

    async def _until_serving(self, deadline_s: float) -> None:
        deadline = time.monotonic() + deadline_s
        unready_targets: dict[str, Node | Daemon] = {
            agent.name: node for agent, node in zip(self.agents, self.nodes, strict=True)
        }
        unready_targets |= {target.name: target for target in self.controllers}
        while unready_targets and time.monotonic() < deadline:
            for name, target in tuple(unready_targets.items()):
                serves = target.probe() if isinstance(target, Node) else _is_ready(target)
                if await serves:
                    del unready_targets[name]
            await asyncio.sleep(POLL_S)
        for name in unready_targets:
            self._add_violation("no-recovery", f"{name} does not serve within {deadline_s:g} s")

    def _recoveries(self) -> Iterator[float]:
        affected = {agent.name: [node] for agent, node in zip(self.agents, self.nodes, strict=True)}
        affected[ETCD] = self.nodes
        for fault in self.injector.executed:
            served = [at for node in affected.get(fault.name, ()) for at in node.served_at]
            served_after = [at for at in served if at >= fault.over_at]
            if served_after:
                yield min(served_after) - fault.over_at

    def _check_processes(self) -> dict[str, int]:
        """Add violations; return process -> tracebacks."""
        for name, count in self.injector.exits.items():
            self._add_violation("ended", f"{name}, {count} times")
        counts = {
            daemon.name: daemon.log().count("Traceback")
            for daemon in (*self.agents, *self.controllers)
        }
        tracebacks = {name: count for name, count in counts.items() if count}
        for name, count in tracebacks.items():
            self._add_violation("traceback", f"{count} in the log of {name}")
        return tracebacks

    def _outcome(self, events: int) -> Outcome:
        tracebacks = self._check_processes()
        return Outcome(
            self.options,
            sum((node.counts for node in self.nodes), Counter[str]()) + self.operator.counts,
            Counter(fault.kind for fault in self.injector.executed),
            self.injector.garbage,
            list(self._recoveries()),
            self.injector.exits,
            tracebacks,
            events,
            self.violations,
        )

    def _add_violation(self, rule: str, text: str) -> None:
        self.violations.append(Violation(rule, text))


async def _is_ready(daemon: Daemon) -> bool:
    return await asyncio.to_thread(_request_readiness, daemon.health_port)


def _request_readiness(port: int) -> bool:
    address = f"http://127.0.0.1:{port}/v1/runtime/readiness"
    try:
        with urllib.request.urlopen(address, timeout=PROBE_S) as answer:
            return bool(answer.status == HTTPStatus.OK)
    except OSError:
        return False


async def run(options: Options, directory: Path) -> Outcome:
    """Make one run; ``directory`` must be empty."""
    fault_run = Run(options, directory)
    async with fault_run.started():
        await fault_run.inject_faults()
        await fault_run.quiesce()
        return await fault_run.check_log()

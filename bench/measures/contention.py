"""Eight agents allocate all addresses of one pool concurrently: failures, duplicates and time.

In a full run, each agent is a process; in a quick run, all are in this process. The reference for
the time is a pool with two addresses for each Pod.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack, ExitStack
from typing import Any, NamedTuple

from bench.figures import Figure, ratio_figure
from bench.rig.frames import FIRST_NEW_SERIAL, netconf
from bench.rig.lab import CLUSTER, Lab
from bench.rig.seed_writer import SeedWriter
from bench.rig.seeding import exact_pool
from core.allocation.allocator import Added
from core.eventstore.keys import Keys
from core.eventstore.kv import KeyValueStore
from core.eventstore.log_reader import LOG_START, LogReader
from tests.support.checked_log import log_violations
from tests.support.etcd import EtcdCluster
from tests.support.node_harness import NodeHarness, addresses, gather_outcomes, pod

AGENTS = 8
CALLERS = 64
ROUNDS = 3


class Outcome(NamedTuple):
    """The results of all ADDs. ``failures``: error texts. ``allocated``: addresses."""

    failures: list[str]
    allocated: list[str]
    seconds: float


def measure(lab: Lab) -> list[Figure]:
    """Measure contention_failures, contention_duplicates and contention_time_ratio."""
    pods = lab.scale.contending_pods
    contend = _contend_in_processes if lab.scale.agents_apart else _contend_in_this_process
    failure_counts: list[float] = []
    duplicate_counts: list[float] = []
    ratios: list[float] = []
    for _ in lab.rounds(ROUNDS):
        with lab.etcd() as etcd:
            lab.fill(etcd, lambda store, keys: _define_pool(store, keys, 2 * pods))
            large_pool_outcome = contend(lab, etcd, pods)
        with lab.etcd() as etcd:
            lab.fill(etcd, lambda store, keys: _define_pool(store, keys, pods))
            outcome = contend(lab, etcd, pods)
            ratios.append(outcome.seconds / large_pool_outcome.seconds)
            failure_counts.append(len(outcome.failures))
            duplicate_counts.append(
                len(outcome.allocated) - len(set(outcome.allocated)) + _violations(lab, etcd)
            )
        if outcome.failures:
            lab.report(f"contention: {outcome.failures[0]}")
    kind = "agents" if lab.scale.agents_apart else "nodes in one process"
    note = f"{AGENTS} {kind}, {len(failure_counts)} rounds of {pods:,} Pods on {pods:,} addresses"
    duplicates_note = f"addresses allocated twice, and violations in the log; {note}"
    return [
        Figure(
            "contention_failures",
            sum(failure_counts),
            "failed ADDs",
            note=note,
            samples=tuple(failure_counts),
        ),
        Figure(
            "contention_duplicates",
            sum(duplicate_counts),
            "addresses",
            note=duplicates_note,
            samples=tuple(duplicate_counts),
        ),
        ratio_figure("contention_time_ratio", ratios, "a pool twice as large", note),
    ]


async def _define_pool(store: KeyValueStore, keys: Keys, count: int) -> None:
    await SeedWriter(store, keys, "operator").define([exact_pool("exact", count)])


def _contend_in_processes(lab: Lab, etcd: EtcdCluster, pods: int) -> Outcome:
    with ExitStack() as stack:
        agents = [lab.agent(etcd, f"node-{number}") for number in range(AGENTS)]
        for agent in agents:
            stack.callback(agent.stop)
            agent.launch()  # does not wait, so that all agents start concurrently
        for agent in agents:
            agent.wait_ready()
        parameters: dict[str, Any] = {"sockets": [str(agent.framed_path) for agent in agents]}
        parameters |= {"verb": "ADD", "callers": CALLERS, "first": FIRST_NEW_SERIAL, "count": pods}
        report = lab.call("framed", parameters | {"netconf": netconf().decode()})
    return Outcome(report["failures"], report["addresses"], report["seconds"])


def _contend_in_this_process(lab: Lab, etcd: EtcdCluster, pods: int) -> Outcome:
    return asyncio.run(_contend(lab, etcd, pods))


async def _contend(lab: Lab, etcd: EtcdCluster, pods: int) -> Outcome:
    async with AsyncExitStack() as stack:
        nodes = []
        for number in range(AGENTS):
            store = await stack.enter_async_context(lab.store(etcd))
            node = NodeHarness(store, f"node-{number}", cluster=CLUSTER)
            nodes.append(await stack.enter_async_context(node))
        adds = [nodes[serial % AGENTS].add(pod(f"web-{serial}")) for serial in range(pods)]
        began = time.perf_counter()
        results = await gather_outcomes(*adds)
        seconds = time.perf_counter() - began
    failures = [repr(result) for result in results if isinstance(result, Exception)]
    allocated = [
        address for result in results if isinstance(result, Added) for address in addresses(result)
    ]
    return Outcome(failures, allocated, seconds)


def _violations(lab: Lab, etcd: EtcdCluster) -> int:
    async def count() -> int:
        async with lab.store(etcd) as store:
            segments, _ = await LogReader(store, lab.keys).catch_up(LOG_START)
        events = [event for segment in segments for event in segment.events()]
        return len(list(log_violations(events)))

    return asyncio.run(count())

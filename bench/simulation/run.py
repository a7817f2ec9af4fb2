"""Runs one simulation from an empty etcd to the verdict, and measures each incident."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple, TypeVar

from bench.rig.lab import CLUSTER, Lab
from bench.simulation import incidents
from bench.simulation.fleet import Fleet
from bench.simulation.incidents import Fanout, PodsStarted, RackLost
from bench.simulation.judging import Verdict, judge
from bench.simulation.plan import Size
from bench.simulation.usage import EtcdUsage, etcd_usage, peak_rss_mb
from core.eventstore.keys import Keys
from core.eventstore.kv import KeyValueStore
from tests.support.etcd import EtcdCluster

T = TypeVar("T")
PODS_START: Final = "Pods start"
"""The name of the phase in which all Pods start at once."""


class Phase(NamedTuple):
    """One incident: its duration, the CPU of the nodes and of this process, and the use of etcd."""

    name: str
    seconds: float
    nodes_cpu_s: float
    here_cpu_s: float
    etcd: EtcdUsage


class Run(NamedTuple):
    """The results of a simulation. Memory in MB: of all processes with nodes, and of this one."""

    fanout: Fanout
    start: PodsStarted
    rack: PodsStarted
    lost: RackLost
    verdict: Verdict
    phases: list[Phase]
    processes: int
    nodes_rss_mb: float
    here_rss_mb: float

    @property
    def failures(self) -> list[str]:
        """The errors of Pods that did not start."""
        return self.start.failures + self.rack.failures

    @property
    def shared(self) -> int:
        """The number of addresses that were allocated twice."""
        allocated = self.start.addresses + self.rack.addresses
        return len(allocated) - len(set(allocated))


class Simulation:
    """Runs one simulation on an empty etcd."""

    def __init__(self, lab: Lab, etcd: EtcdCluster, size: Size) -> None:
        self._lab = lab
        self._etcd = etcd
        self._size = size
        self._fleet = Fleet(etcd.endpoints[0], CLUSTER, size.nodes)
        self._phases: list[Phase] = []

    def run(self) -> Run:
        """Run all incidents."""
        size, fleet = self._size, self._fleet
        self._run_with_store(lambda store, keys: incidents.define(store, keys, size))
        with fleet:
            self._phase("nodes start", fleet.open)
            fanout = self._phase(
                "pools change", lambda: self._run_with_fleet(incidents.change_pools)
            )
            all_nodes, added_pods = range(size.nodes), size.rack_pods - size.pods
            start = self._phase(
                PODS_START, lambda: incidents.start_pods(fleet, all_nodes, 0, size.pods)
            )
            self._run_with_store(lambda store, keys: incidents.grow_rack(store, keys, size))
            rack = self._phase(
                "the rack fills",
                lambda: incidents.start_pods(fleet, size.lost, size.pods, added_pods),
            )
            lost = self._phase(
                "the rack is lost", lambda: self._run_with_fleet(incidents.lose_rack)
            )
            rss_mb = sum(answer["peak_rss_mb"] for answer in fleet.ask({"do": "usage"}))
        remaining_claims = len(start.addresses) + len(rack.addresses) - lost.claims
        verdict = self._run_with_store(lambda store, keys: judge(store, keys, remaining_claims))
        processes, here_rss_mb = fleet.processes, peak_rss_mb()
        return Run(fanout, start, rack, lost, verdict, self._phases, processes, rss_mb, here_rss_mb)

    def _phase(self, name: str, incident: Callable[[], T]) -> T:
        """Run one incident and measure its resources."""
        member = self._etcd.members[0]
        etcd, nodes_cpu_s = etcd_usage(member), self._nodes_cpu_s()
        began, cpu_s = time.monotonic(), time.process_time()
        result = incident()
        seconds, here_cpu_s = time.monotonic() - began, time.process_time() - cpu_s
        used_s = self._nodes_cpu_s() - nodes_cpu_s
        self._phases.append(
            Phase(name, seconds, used_s, here_cpu_s, etcd_usage(member).minus(etcd))
        )
        return result

    def _nodes_cpu_s(self) -> float:
        return float(sum(answer["cpu_s"] for answer in self._fleet.ask({"do": "usage"})))

    def _run_with_fleet(
        self, happen: Callable[[KeyValueStore, Keys, Fleet, Size], Awaitable[T]]
    ) -> T:
        return self._run_with_store(
            lambda store, keys: happen(store, keys, self._fleet, self._size)
        )

    def _run_with_store(self, happen: Callable[[KeyValueStore, Keys], Awaitable[T]]) -> T:
        async def run() -> T:
            async with self._lab.store(self._etcd) as store:
                return await happen(store, self._lab.keys)

        return asyncio.run(run())

"""Runs one simulation, from an empty etcd to the check of the log."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple, TypeVar

from bench.rig.lab import CLUSTER, Lab
from bench.simulation import incidents
from bench.simulation.consistency import Consistency, check_consistency
from bench.simulation.fleet import Fleet
from bench.simulation.incidents import Fanout, PodsStarted, RackLost
from bench.simulation.plan import Size
from bench.simulation.usage import EtcdUsage, etcd_usage, peak_rss_mb
from core.eventstore.keys import Keys
from core.eventstore.kv import KeyValueStore
from tests.support.etcd import EtcdCluster

T = TypeVar("T")
PODS_START: Final = "Pods start"


class Phase(NamedTuple):
    """One incident. ``here_cpu_s``: the CPU time of this process."""

    name: str
    seconds: float
    nodes_cpu_s: float
    here_cpu_s: float
    etcd: EtcdUsage


class Run(NamedTuple):
    """The results of a simulation.

    ``start``: the start of all Pods. ``rack``: the start of more Pods in the rack that is lost
    later. ``processes``, ``nodes_rss_mb``: processes with nodes, and their peak memory.
    ``here_rss_mb``: peak memory of this process.
    """

    fanout: Fanout
    start: PodsStarted
    rack: PodsStarted
    lost: RackLost
    consistency: Consistency
    phases: list[Phase]
    processes: int
    nodes_rss_mb: float
    here_rss_mb: float

    @property
    def failures(self) -> list[str]:
        """The errors of ADDs."""
        return self.start.failures + self.rack.failures

    @property
    def duplicates(self) -> int:
        """How many addresses were allocated twice."""
        allocated = self.start.addresses + self.rack.addresses
        return len(allocated) - len(set(allocated))

    @property
    def faults(self) -> int:
        """The number of violations, leaks, differences and addresses allocated twice."""
        return self.consistency.faults + self.duplicates


class Simulation:
    """Runs one simulation on an empty etcd."""

    def __init__(self, lab: Lab, etcd: EtcdCluster, size: Size) -> None:
        self._lab = lab
        self._etcd = etcd
        self._size = size
        self._fleet = Fleet(etcd.endpoints[0], CLUSTER, size.nodes)
        self._phases: list[Phase] = []

    def run(self) -> Run:
        """Run all incidents; return the measurements."""
        size, fleet = self._size, self._fleet
        self._run_with_store(
            lambda store, keys: incidents.define_pools_and_nodes(store, keys, size)
        )
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
                lambda: incidents.start_pods(fleet, size.lost_nodes, size.pods, added_pods),
            )
            lost = self._phase(
                "the rack is lost", lambda: self._run_with_fleet(incidents.lose_rack)
            )
            nodes_rss_mb = sum(response["peak_rss_mb"] for response in fleet.request("usage"))
        remaining_claims = len(start.addresses) + len(rack.addresses) - lost.claims
        consistency = self._run_with_store(
            lambda store, keys: check_consistency(store, keys, remaining_claims)
        )
        return Run(
            fanout,
            start,
            rack,
            lost,
            consistency,
            self._phases,
            processes=fleet.processes,
            nodes_rss_mb=nodes_rss_mb,
            here_rss_mb=peak_rss_mb(),
        )

    def _phase(self, name: str, incident: Callable[[], T]) -> T:
        member = self._etcd.members[0]
        etcd_before, nodes_before_s = etcd_usage(member), self._nodes_cpu_s()
        began, here_before_s = time.monotonic(), time.process_time()
        result = incident()
        seconds, here_cpu_s = time.monotonic() - began, time.process_time() - here_before_s
        nodes_cpu_s = self._nodes_cpu_s() - nodes_before_s
        etcd = etcd_usage(member).minus(etcd_before)
        self._phases.append(Phase(name, seconds, nodes_cpu_s, here_cpu_s, etcd))
        return result

    def _nodes_cpu_s(self) -> float:
        return float(sum(response["cpu_s"] for response in self._fleet.request("usage")))

    def _run_with_fleet(
        self, incident: Callable[[KeyValueStore, Keys, Fleet, Size], Awaitable[T]]
    ) -> T:
        return self._run_with_store(
            lambda store, keys: incident(store, keys, self._fleet, self._size)
        )

    def _run_with_store(self, work: Callable[[KeyValueStore, Keys], Awaitable[T]]) -> T:
        async def run() -> T:
            async with self._lab.store(self._etcd) as store:
                return await work(store, self._lab.keys)

        return asyncio.run(run())

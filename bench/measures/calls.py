"""Calls of many measures: ADDs to agents' sockets, which must succeed, and bare transactions."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Any, NamedTuple

from bench.rig.agent import AgentProcess
from bench.rig.frames import NEW_PODS, netconf
from bench.rig.lab import Lab
from tests.support.etcd import EtcdCluster

WARM_UP_CALLS = 300
"""Code paths taken and connections made before the clock starts."""

RECORDS_MAX = {"SPIDERPOOL_IPPOOL_MAX_ALLOCATED_IPS": "10000000"}
"""The bound of records is out of the way, but not switched off: claims are counted as usual."""


class CallFailed(Exception):
    """A call that had to succeed did not."""


class Calls(NamedTuple):
    """Many calls of one verb: how many a second, how long each took, what the agent used."""

    rate: float
    latencies_ms: list[float]
    cpu_ms: float
    addresses: list[str]

    @property
    def p50_ms(self) -> float:
        """The median call."""
        return median(self.latencies_ms)


class Caller:
    """Calls an agent for ever new Pods."""

    def __init__(self, lab: Lab, agent: AgentProcess, pools: Sequence[str] = ()) -> None:
        self._lab = lab
        self._agent = agent
        self._netconf = netconf(pools).decode()
        self._next = NEW_PODS

    def warm_up(self) -> None:
        """Calls that nobody times."""
        self.add(WARM_UP_CALLS, callers=32)

    def add(self, count: int, callers: int) -> Calls:
        """ADDs for new Pods. Raises CallFailed."""
        first, self._next = self._next, self._next + count
        return self.call("ADD", first, count, callers)

    def call(self, verb: str, first: int, count: int, callers: int) -> Calls:
        """Calls for the Pods from ``first`` on. Raises CallFailed."""
        before_s = self._agent.cpu_s()
        order = {"sockets": [str(self._agent.framed_path)], "verb": verb, "callers": callers}
        order |= {"first": first, "count": count, "netconf": self._netconf}
        report = self._lab.call("framed", order)
        cpu_ms = (self._agent.cpu_s() - before_s) * 1e3 / count
        if report["failures"]:
            text = f"{len(report['failures'])} of {count} {verb}: {report['failures'][0]}"
            raise CallFailed(text)
        return Calls(count / report["seconds"], report["latencies_ms"], cpu_ms, report["addresses"])


class Bare:
    """Bare transactions on the same etcd (``bench.callers.bare``)."""

    def __init__(self, lab: Lab, etcd: EtcdCluster) -> None:
        self._lab = lab
        self._endpoint = etcd.endpoints[0]
        self._next = 0

    def run(self, count: int, callers: int) -> Calls:
        """Transactions of the shape of an ADD."""
        order: dict[str, Any] = {"endpoint": self._endpoint, "callers": callers}
        report = self._lab.call("bare", order | {"first": self._next, "count": count})
        self._next += count
        return Calls(count / report["seconds"], report["latencies_ms"], report["cpu_ms"], [])

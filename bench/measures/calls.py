"""Calls that several measures make: ADDs to agents, and bare transactions."""

from __future__ import annotations

from statistics import median
from typing import Any, NamedTuple

from bench.rig.agent import AgentProcess
from bench.rig.frames import FIRST_NEW_SERIAL, netconf
from bench.rig.lab import Lab
from tests.support.etcd import EtcdCluster

WARM_UP_CALLS = 300
"""ADDs until the agent has imported its modules and opened its connections."""

UNLIMITED_ALLOCATIONS = {"SPIDERPOOL_IPPOOL_MAX_ALLOCATED_IPS": "10000000"}
"""Environment of an agent: the limit of allocations per pool, which no measure reaches."""


class CallFailed(Exception):
    """At least one call failed; the text has the first error."""


class Calls(NamedTuple):
    """The results of many calls. ``rate``: calls per second. ``cpu_ms``: CPU time of a call."""

    rate: float
    latencies_ms: list[float]
    cpu_ms: float

    @property
    def p50_ms(self) -> float:
        """The median latency."""
        return median(self.latencies_ms)


class AddCaller:
    """Sends ADDs to one agent, each for a new Pod."""

    def __init__(self, lab: Lab, agent: AgentProcess) -> None:
        self._lab = lab
        self._agent = agent
        self._next = FIRST_NEW_SERIAL

    def warm_up(self, *pools: str) -> None:
        """Make calls that are not measured."""
        self.add(WARM_UP_CALLS, 32, *pools)

    def add(self, count: int, callers: int, *pools: str) -> Calls:
        """Run ADDs from ``pools``, or from the default pools. Raises CallFailed."""
        parameters = {"sockets": [str(self._agent.framed_path)], "verb": "ADD", "callers": callers}
        parameters |= {"first": self._next, "count": count, "netconf": netconf(pools).decode()}
        self._next += count
        before_s = self._agent.cpu_s()
        report = self._lab.call("framed", parameters)
        cpu_ms = (self._agent.cpu_s() - before_s) * 1e3 / count
        if report["failures"]:
            text = f"{len(report['failures'])} of {count} ADDs failed: {report['failures'][0]}"
            raise CallFailed(text)
        return Calls(count / report["seconds"], report["latencies_ms"], cpu_ms)


class BareTransactions:
    """Runs bare transactions on one etcd, like those of an ADD but without an agent."""

    def __init__(self, lab: Lab, etcd: EtcdCluster) -> None:
        self._lab = lab
        self._endpoint = etcd.endpoints[0]
        self._next = 0

    def run(self, count: int, callers: int, client: str = "grpc") -> Calls:
        """Run transactions. ``client``: "grpc" (grpc.aio) or "own" (the agent's client)."""
        parameters: dict[str, Any] = {
            "endpoint": self._endpoint,
            "callers": callers,
            "client": client,
        }
        report = self._lab.call("bare", parameters | {"first": self._next, "count": count})
        self._next += count
        return Calls(count / report["seconds"], report["latencies_ms"], report["cpu_ms"])

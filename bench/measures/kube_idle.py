"""The CPU of an idle controller and an idle agent, and their memory.

CPU is that of each process during some seconds in a cluster of 200 Pods, in percent of one core;
memory is the resident memory after 1,000 Pods. The API server is real. The Pods have addresses from
the agent, and SpiderEndpoints.
"""

from __future__ import annotations

import time
from typing import Any, Final

from bench.figures import Figure
from bench.measures.calls import CallFailed
from bench.rig.cluster import Cluster, kubernetes_cluster
from bench.rig.daemon import DaemonProcess
from bench.rig.frames import netconf
from bench.rig.lab import Lab

PODS: Final = 200
PODS_FOR_MEMORY: Final = 1_000
RATE: Final = 1_000
"""ADDs per second before the measurement."""

SETTLED_S: Final = 1.0
"""Seconds after which all effects of a change are done: status writes, and executions, which are
also archived."""


def measure(lab: Lab) -> list[Figure]:
    """controller_idle_pct, agent_idle_pct, controller_rss_mb, agent_rss_mb."""
    cluster = lab.shared(kubernetes_cluster)
    controller = cluster.controller()
    _add(lab, cluster, PODS)
    cluster.wait_idle()
    time.sleep(SETTLED_S)
    cpu_pcts = _cpu_pcts([controller, cluster.agent], lab.scale.quiet_s)
    _add(lab, cluster, PODS_FOR_MEMORY - PODS)
    cluster.wait_idle()
    memory_mb = [daemon.rss_mb() for daemon in (controller, cluster.agent)]
    idle = f"{PODS} Pods, real API server, {lab.scale.quiet_s:g} s in which nothing happens"
    after = f"after {PODS_FOR_MEMORY:,} Pods, real API server"
    return [
        Figure("controller_idle_pct", cpu_pcts[0], "% of a core", note=idle),
        Figure("agent_idle_pct", cpu_pcts[1], "% of a core", note=idle),
        Figure("controller_rss_mb", memory_mb[0], "MB", note=after),
        Figure("agent_rss_mb", memory_mb[1], "MB", note=after),
    ]


def _add(lab: Lab, cluster: Cluster, count: int) -> None:
    """Allocate addresses for new Pods."""
    pods = cluster.new_pods(count)
    order: dict[str, Any] = {"socket": str(cluster.agent.framed_path), "first": pods[0]}
    order |= {"count": count, "rate": RATE, "netconf": netconf([]).decode()}
    report = lab.call("paced", order)
    if report["failures"]:
        raise CallFailed(f"{len(report['failures'])} of {count} ADDs: {report['failures'][0]}")


def _cpu_pcts(daemons: list[DaemonProcess], seconds: float) -> list[float]:
    began, before_s = time.perf_counter(), [daemon.cpu_s() for daemon in daemons]
    time.sleep(seconds)
    elapsed = time.perf_counter() - began
    return [
        (daemon.cpu_s() - before) / elapsed * 100
        for daemon, before in zip(daemons, before_s, strict=True)
    ]

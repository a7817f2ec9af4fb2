"""The CPU time of an idle controller and an idle agent, and their memory.

CPU time is measured with ``PODS`` Pods, resident memory with ``PODS_FOR_MEMORY`` Pods.
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

SETTLED_S: Final = 1.0
"""Seconds until the last status writes and the archiving of closed workflow executions end."""


def measure(lab: Lab) -> list[Figure]:
    """Measure controller_idle_pct, agent_idle_pct, controller_rss_mb and agent_rss_mb."""
    cluster = lab.shared(kubernetes_cluster)
    controller = cluster.controller()
    _add(lab, cluster, PODS)
    cluster.wait_idle()
    time.sleep(SETTLED_S)
    controller_pct, agent_pct = _cpu_pcts([controller, cluster.agent], lab.scale.quiet_s)
    _add(lab, cluster, PODS_FOR_MEMORY - PODS)
    cluster.wait_idle()
    idle = f"{PODS} Pods, real API server, {lab.scale.quiet_s:g} s without any change"
    after = f"after {PODS_FOR_MEMORY:,} Pods, real API server"
    return [
        Figure("controller_idle_pct", controller_pct, "% of a core", note=idle),
        Figure("agent_idle_pct", agent_pct, "% of a core", note=idle),
        Figure("controller_rss_mb", controller.rss_mb(), "MB", note=after),
        Figure("agent_rss_mb", cluster.agent.rss_mb(), "MB", note=after),
    ]


def _add(lab: Lab, cluster: Cluster, count: int) -> None:
    pods = cluster.new_pods(count)
    parameters: dict[str, Any] = {"socket": str(cluster.agent.framed_path), "first": pods[0]}
    parameters |= {"count": count, "rate": RATE, "netconf": netconf([]).decode()}
    report = lab.call("paced", parameters)
    if report["failures"]:
        raise CallFailed(
            f"{len(report['failures'])} of {count} ADDs failed: {report['failures'][0]}"
        )


def _cpu_pcts(daemons: list[DaemonProcess], seconds: float) -> list[float]:
    """Wait; return the percent of a core that each daemon used."""
    began, before_s = time.perf_counter(), [daemon.cpu_s() for daemon in daemons]
    time.sleep(seconds)
    elapsed = time.perf_counter() - began
    return [
        (daemon.cpu_s() - before) / elapsed * 100
        for daemon, before in zip(daemons, before_s, strict=True)
    ]

"""What a controller and an agent cost in a cluster of 200 Pods while nothing happens.

CPU of each process over some seconds, in percent of one core. Kubernetes is a real API server; the
Pods got their addresses from this agent, and the controller reported them.
"""

from __future__ import annotations

import time
from typing import Any, Final

from bench.figures import Figure
from bench.measures.calls import RECORDS_MAX, CallFailed
from bench.rig.controller import ControllerProcess
from bench.rig.daemon import DaemonProcess
from bench.rig.frames import NEW_PODS, netconf
from bench.rig.kubernetes import NODE, api_server, define_kinds, require_programs, write_cluster
from bench.rig.lab import Lab
from bench.rig.seed_writer import SeedWriter
from bench.rig.seeding import wide_pool
from core.store.keys import Keys
from core.store.kv import KeyValueStore
from nodeagent.settings.environment import KUBECONFIG

PODS: Final = 200
RATE: Final = 200
"""ADDs a second before the measure begins."""

SETTLED_S: Final = 2.0
"""After which what a change causes is done: reports, executions, retirements."""


def measure(lab: Lab) -> list[Figure]:
    """controller_idle_pct, agent_idle_pct."""
    require_programs()
    etcd = lab.etcd(lab.seed("kube-idle", _fill))
    with api_server(lab.room("kube"), etcd) as server:
        define_kinds(server)
        variables = {KUBECONFIG: str(server.kubeconfig)}
        with (
            ControllerProcess(lab.room("controller"), etcd.endpoints[0], variables) as controller,
            lab.agent(etcd, NODE, {**RECORDS_MAX, **variables}) as agent,
        ):
            _add(lab, str(agent.framed_path))
            controller.wait_idle()
            time.sleep(SETTLED_S)
            busy = _cpu_pcts([controller, agent], lab.scale.quiet_s)
    note = f"{PODS} Pods, real API server, {lab.scale.quiet_s:g} s in which nothing happens"
    return [
        Figure("controller_idle_pct", busy[0], "% of a core", note=note),
        Figure("agent_idle_pct", busy[1], "% of a core", note=note),
    ]


async def _fill(store: KeyValueStore, keys: Keys) -> None:
    await SeedWriter(store, keys, "operator").define([wide_pool()])
    await write_cluster(store, range(NEW_PODS, NEW_PODS + PODS))


def _add(lab: Lab, socket: str) -> None:
    order: dict[str, Any] = {"socket": socket, "first": NEW_PODS, "count": PODS, "rate": RATE}
    report = lab.call("paced", order | {"netconf": netconf([]).decode()})
    if report["failures"]:
        raise CallFailed(f"{len(report['failures'])} of {PODS} ADDs: {report['failures'][0]}")


def _cpu_pcts(daemons: list[DaemonProcess], seconds: float) -> list[float]:
    began, before = time.perf_counter(), [one.cpu_s() for one in daemons]
    time.sleep(seconds)
    lasted = time.perf_counter() - began
    return [(one.cpu_s() - then) / lasted * 100 for one, then in zip(daemons, before, strict=True)]

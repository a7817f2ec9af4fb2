"""A lone DEL beside a lone ADD at the agent's framed socket, in a cluster with a controller.

The Pods of the DELs are being terminated, as they are when a runtime deletes their sandboxes. The
agent, the controller and the caller share the machine: ADDs and DELs are compared in turns, and
each turn begins when the controller has dealt with what came before it.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from bench.figures import Figure, percentile
from bench.measures.calls import RECORDS_MAX, CallFailed
from bench.rig.agent import AgentProcess
from bench.rig.controller import ControllerProcess
from bench.rig.frames import NEW_PODS, netconf
from bench.rig.kubernetes import (
    NODE,
    api_server,
    define_kinds,
    require_programs,
    terminate_pods,
    write_cluster,
)
from bench.rig.lab import Lab
from bench.rig.seed_writer import SeedWriter
from bench.rig.seeding import wide_pool
from core.store.keys import Keys
from core.store.kv import KeyValueStore
from nodeagent.settings.environment import KUBECONFIG
from tests.support.etcd import EtcdCluster

PODS: Final = 100
"""In one round."""


def measure(lab: Lab) -> list[Figure]:
    """kube_del_of_add_1, kube_del_of_add_1_p99."""
    require_programs()
    adds: list[list[float]] = []
    deletes: list[list[float]] = []
    etcd = lab.etcd(lab.seed("kube-del", lambda store, keys: _fill(lab, store, keys)))
    with api_server(lab.room("kube"), etcd) as server:
        define_kinds(server)
        variables = {KUBECONFIG: str(server.kubeconfig)}
        with (
            ControllerProcess(lab.room("controller"), etcd.endpoints[0], variables) as controller,
            lab.agent(etcd, NODE, {**RECORDS_MAX, **variables}) as agent,
        ):
            for number in lab.rounds():
                first = NEW_PODS + number * PODS
                controller.wait_idle()
                adds.append(_calls(lab, agent, "ADD", first))
                asyncio.run(_terminate(lab, etcd, first))
                controller.wait_idle()
                deletes.append(_calls(lab, agent, "DEL", first))
    return [
        _figure("kube_del_of_add_1", 0.5, adds, deletes),
        _figure("kube_del_of_add_1_p99", 0.99, adds, deletes),
    ]


async def _fill(lab: Lab, store: KeyValueStore, keys: Keys) -> None:
    """Pods for every round, and their pool."""
    pods = range(NEW_PODS, NEW_PODS + PODS * lab.scale.rounds)
    await SeedWriter(store, keys, "operator").define([wide_pool()])
    await write_cluster(store, pods)


async def _terminate(lab: Lab, etcd: EtcdCluster, first: int) -> None:
    """Mark a round's Pods as being deleted; the agent's watch shows it within a second."""
    async with lab.store(etcd) as store:
        await terminate_pods(store, range(first, first + PODS))


def _calls(lab: Lab, agent: AgentProcess, verb: str, first: int) -> list[float]:
    """Milliseconds of each of a round's calls. Raises CallFailed."""
    order: dict[str, Any] = {"sockets": [str(agent.framed_path)], "verb": verb, "callers": 1}
    order |= {"first": first, "count": PODS, "netconf": netconf().decode()}
    report = lab.call("framed", order)
    if report["failures"]:
        raise CallFailed(f"{len(report['failures'])} {verb}s: {report['failures'][0]}")
    latencies_ms: list[float] = report["latencies_ms"]
    return latencies_ms


def _figure(name: str, share: float, adds: list[list[float]], deletes: list[list[float]]) -> Figure:
    """This percentile of all DELs over that of all ADDs; a round has too few calls for a tail."""
    added, deleted = (
        percentile([one for calls in kind for one in calls], share) for kind in (adds, deletes)
    )
    ratios = [
        percentile(after, share) / percentile(before, share)
        for before, after in zip(adds, deletes, strict=True)
    ]
    note = f"{len(adds)} rounds of {PODS} Pods, one caller: {deleted:.2f} ms against {added:.2f} ms"
    return Figure(name, deleted / added, "x a lone ADD's time", 1.0, note, tuple(ratios))

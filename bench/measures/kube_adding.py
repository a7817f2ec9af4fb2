"""ADDs through the executable in a cluster: a real API server, an agent that watches its Pods.

Eight callers, each a runtime that runs the executable from its start to its end; every Pod is one
that the API server has, controlled by a ReplicaSet of a Deployment. Compared with eight callers
that run an interpreter which does nothing, in turns.
"""

from __future__ import annotations

from typing import Final

from bench.figures import Figure, median_figure, percentile, ratio_figure
from bench.measures.calls import RECORDS_MAX, Calls
from bench.measures.executable import Executable, Runs
from bench.rig.frames import NEW_PODS
from bench.rig.kubernetes import (
    NODE,
    api_server,
    define_kinds,
    require_programs,
    write_cluster,
)
from bench.rig.lab import Lab
from bench.rig.seed_writer import SeedWriter
from bench.rig.seeding import wide_pool
from core.store.keys import Keys
from core.store.kv import KeyValueStore
from nodeagent.settings.environment import KUBECONFIG

CALLERS: Final = 8
PODS: Final = 200


def measure(lab: Lab) -> list[Figure]:
    """kube_add_rate_8, kube_add_p50_8_ms, kube_add_of_bare_8."""
    require_programs()
    adds: list[Calls] = []
    bare: list[Calls] = []
    etcd = lab.etcd(lab.seed("kube-add", lambda store, keys: _fill(lab, store, keys)))
    with api_server(lab.room("kube"), etcd) as server:
        define_kinds(server)  # an agent is not ready before it can read the SpiderCoordinator
        variables = {**RECORDS_MAX, KUBECONFIG: str(server.kubeconfig)}
        with lab.agent(etcd, NODE, variables) as agent:
            runs = Runs(lab, Executable(lab, agent.socket_path), CALLERS)
            runs.adds(PODS)
            for _ in lab.rounds():
                bare.append(runs.bare(PODS))
                adds.append(runs.adds(PODS))
    p99 = percentile([one for calls in adds for one in calls.latencies_ms], 0.99)
    note = f"{PODS} Pods, {CALLERS} callers; reference: runs of a bare interpreter"
    return [
        median_figure(
            "kube_add_rate_8",
            [calls.rate for calls in adds],
            "ADD/s",
            [calls.rate for calls in bare],
            note,
        ),
        median_figure(
            "kube_add_p50_8_ms",
            [calls.p50_ms for calls in adds],
            "ms",
            [calls.p50_ms for calls in bare],
            f"p99 {p99:.0f} ms; {note}",
        ),
        ratio_figure(
            "kube_add_of_bare_8",
            [one.rate / other.rate for one, other in zip(adds, bare, strict=True)],
            "runs of a bare interpreter a second",
            f"{PODS} Pods, {CALLERS} callers",
        ),
    ]


async def _fill(lab: Lab, store: KeyValueStore, keys: Keys) -> None:
    """Pods for every round and one more, and their pool."""
    await SeedWriter(store, keys, "operator").define([wide_pool()])
    await write_cluster(store, range(NEW_PODS, NEW_PODS + PODS * (lab.scale.rounds + 1)))

"""ADDs through the executable in a cluster: a real API server, an agent that watches its Pods.

Eight callers, each a runtime that runs the executable from its start to its end; every Pod is one
that the API server has, controlled by a ReplicaSet of a Deployment. Compared with eight callers
that run an interpreter which does nothing, in turns.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from bench.figures import Figure, median_figure, percentile
from bench.measures.calls import RECORDS_MAX, CallFailed, Calls
from bench.measures.executable import Executable
from bench.rig.frames import NEW_PODS, environment
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
    """kube_add_rate_8, kube_add_p50_8_ms."""
    require_programs()
    adds: list[Calls] = []
    bare: list[Calls] = []
    etcd = lab.etcd(lab.seed("kube-add", lambda store, keys: _fill(lab, store, keys)))
    with api_server(lab.room("kube"), etcd) as server:
        define_kinds(server)  # an agent is not ready before it can read the SpiderCoordinator
        variables = {**RECORDS_MAX, KUBECONFIG: str(server.kubeconfig)}
        with lab.agent(etcd, NODE, variables) as agent:
            runs = _Runs(lab, Executable(lab, agent.socket_path))
            runs.adds()
            for _ in lab.rounds():
                bare.append(runs.bare())
                adds.append(runs.adds())
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
    ]


async def _fill(lab: Lab, store: KeyValueStore, keys: Keys) -> None:
    """Pods for every round and one more, and their pool."""
    await SeedWriter(store, keys, "operator").define([wide_pool()])
    await write_cluster(store, range(NEW_PODS, NEW_PODS + PODS * (lab.scale.rounds + 1)))


class _Runs:
    """Runs of many processes, eight at a time."""

    def __init__(self, lab: Lab, executable: Executable) -> None:
        self._lab = lab
        self._executable = executable
        self._room = lab.room("runs")
        self._next = NEW_PODS

    def bare(self) -> Calls:
        """An interpreter that does nothing."""
        return self._run(self._executable.bare_command, [{}] * PODS)

    def adds(self) -> Calls:
        """ADDs of Pods that have none yet."""
        serials = range(self._next, self._next + PODS)
        self._next += PODS
        return self._run(
            self._executable.command, [environment("ADD", serial) for serial in serials]
        )

    def _run(self, command: Sequence[str], environments: Sequence[dict[str, str]]) -> Calls:
        order: dict[str, Any] = {"command": command, "environments": environments}
        order |= {"stdin": str(self._executable.netconf), "room": str(self._room)}
        report = self._lab.call("executables", order | {"callers": CALLERS})
        if report["failures"]:
            raise CallFailed(f"{len(report['failures'])} of {PODS}: {report['failures'][0]}")
        return Calls(PODS / report["seconds"], report["latencies_ms"], 0.0)

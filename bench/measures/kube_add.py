"""ADDs with the CNI executable in a cluster with a real API server.

The Pods belong to a Deployment. The reference is an interpreter that does nothing.
"""

from __future__ import annotations

from typing import Final

from bench.figures import Figure, median_figure, percentile, ratio_figure
from bench.measures.calls import Calls
from bench.measures.executable import Executable, Runs
from bench.rig.cluster import kubernetes_cluster
from bench.rig.lab import Lab

CALLERS: Final = 8
PODS: Final = 200
ROUNDS: Final = 4


def measure(lab: Lab) -> list[Figure]:
    """Measure kube_add_rate_8, kube_add_p50_8_ms and kube_add_of_bare_8."""
    cluster = lab.shared(kubernetes_cluster)
    adds: list[Calls] = []
    bare: list[Calls] = []
    runs = Runs(lab, Executable(lab, cluster.agent.socket_path), CALLERS)
    cluster.stop_controller()
    pods = cluster.new_pods(PODS * (ROUNDS + 1))
    warm_up_pods, *round_pods = (pods[first : first + PODS] for first in range(0, len(pods), PODS))
    runs.adds(warm_up_pods)
    for number in lab.rounds(ROUNDS):
        bare.append(runs.bare_interpreters(PODS))
        adds.append(runs.adds(round_pods[number]))
    p99 = percentile([latency for calls in adds for latency in calls.latencies_ms], 0.99)
    note = f"{PODS} Pods, {CALLERS} callers; reference: runs of a bare interpreter"
    return [
        median_figure(
            "kube_add_rate_8",
            [calls.rate for calls in adds],
            "ADD/s",
            references=[calls.rate for calls in bare],
            note=note,
        ),
        median_figure(
            "kube_add_p50_8_ms",
            [calls.p50_ms for calls in adds],
            "ms",
            references=[calls.p50_ms for calls in bare],
            note=f"p99 {p99:.0f} ms; {note}",
        ),
        ratio_figure(
            "kube_add_of_bare_8",
            [add.rate / interpreter.rate for add, interpreter in zip(adds, bare, strict=True)],
            "runs of a bare interpreter a second",
            f"{PODS} Pods, {CALLERS} callers",
        ),
    ]

"""DELs and ADDs of one caller at the agent's framed socket, in a cluster with a controller.

The Pods of the DELs have a deletion timestamp, as in a real cluster. DELs begin when agent and
controller are idle, because all processes share the machine.
"""

from __future__ import annotations

from typing import Any, Final

from bench.figures import Figure, percentile
from bench.measures.calls import CallFailed
from bench.rig.agent import AgentProcess
from bench.rig.cluster import kubernetes_cluster
from bench.rig.frames import netconf
from bench.rig.lab import Lab

PODS: Final = 100


def measure(lab: Lab) -> list[Figure]:
    """Measure kube_del_of_add_1 and kube_del_of_add_1_p99."""
    cluster = lab.shared(kubernetes_cluster)
    adds: list[list[float]] = []
    deletes: list[list[float]] = []
    cluster.controller()
    for _ in lab.rounds():
        pods = cluster.new_pods(PODS)
        adds.append(_calls(lab, cluster.agent, "ADD", pods[0]))
        cluster.terminate(pods)
        cluster.wait_idle()
        deletes.append(_calls(lab, cluster.agent, "DEL", pods[0]))
    return [
        _figure("kube_del_of_add_1", 0.5, adds, deletes),
        _figure("kube_del_of_add_1_p99", 0.99, adds, deletes),
    ]


def _calls(lab: Lab, agent: AgentProcess, verb: str, first: int) -> list[float]:
    parameters: dict[str, Any] = {"sockets": [str(agent.framed_path)], "verb": verb, "callers": 1}
    parameters |= {"first": first, "count": PODS, "netconf": netconf().decode()}
    report = lab.call("framed", parameters)
    if report["failures"]:
        raise CallFailed(f"{len(report['failures'])} {verb}s failed: {report['failures'][0]}")
    latencies_ms: list[float] = report["latencies_ms"]
    return latencies_ms


def _figure(name: str, share: float, adds: list[list[float]], deletes: list[list[float]]) -> Figure:
    add_ms, delete_ms = (
        percentile([duration_ms for durations_ms in rounds for duration_ms in durations_ms], share)
        for rounds in (adds, deletes)
    )
    ratios = [
        percentile(round_deletes, share) / percentile(round_adds, share)
        for round_adds, round_deletes in zip(adds, deletes, strict=True)
    ]
    note = (
        f"{len(adds)} rounds of {PODS} Pods, one caller: {delete_ms:.2f} ms against {add_ms:.2f} ms"
    )
    return Figure(
        name,
        delete_ms / add_ms,
        "x the time of an ADD",
        reference=1.0,
        note=note,
        samples=tuple(ratios),
    )

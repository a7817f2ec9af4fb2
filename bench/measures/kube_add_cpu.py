"""CPU of a whole cluster per ADD, by process, and the API server's requests per ADD.

Eight callers run the executable for 200 Pods that the API server has. Agent, controller and API
server run; the API server has an etcd of its own. CPU is read again 4 s after the last ADD, when
the reports of these ADDs are written. Compared with the CPU of one start of a bare interpreter,
measured in turns.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Final, NamedTuple

from bench.figures import Figure, ratio_figure
from bench.measures.executable import Executable, Runs
from bench.rig import processes
from bench.rig.cluster import Cluster, kubernetes_cluster
from bench.rig.kubernetes import request_counts
from bench.rig.lab import Lab
from tests.support.kubernetes import ApiServer

CALLERS: Final = 8
PODS: Final = 200
"""In one round."""

ROUNDS_MIN: Final = 2
"""The API server collects garbage in about every second round, a quarter of its CPU of that one."""

WARM_UP_PODS: Final = 50
REPORTED_S: Final = 4.0
"""From the last ADD until the CPU is read."""

REQUESTS_SHOWN_MAX: Final = 8
"""Kinds of requests in the note, the most frequent first."""

Clocks = Mapping[str, Callable[[], float]]
"""CPU seconds of each part so far, except the executable."""


class Cost(NamedTuple):
    """One round: CPU of each part per ADD, requests of all ADDs, CPU of a bare interpreter."""

    parts_ms: dict[str, float]
    requests: Counter[str]
    bare_ms: float


def measure(lab: Lab) -> list[Figure]:
    """kube_add_cpu_ratio, kube_cpu_split_*, kube_requests_per_add."""
    cluster = lab.shared(kubernetes_cluster)
    runs = Runs(lab, Executable(lab, cluster.agent.socket_path), CALLERS)
    costs = []
    controller = cluster.controller()
    clocks = {"agent": cluster.agent.cpu_s, "controller": controller.cpu_s}
    clocks |= _servers(cluster)
    runs.adds(cluster.new_pods(WARM_UP_PODS))
    for _ in lab.rounds(least=ROUNDS_MIN):
        pods = cluster.new_pods(PODS)
        controller.wait_idle()
        costs.append(_round(runs, cluster.server, clocks, pods))
    return _figures(costs)


def _servers(cluster: Cluster) -> dict[str, Callable[[], float]]:
    server = cluster.server
    members = [member.pid for etcd in (cluster.objects, cluster.log) for member in etcd.members]
    return {
        "api_server": lambda: processes.cpu_s(server.pid),
        "etcd": lambda: sum(map(processes.cpu_s, members)),
    }


def _round(runs: Runs, server: ApiServer, clocks: Clocks, pods: Sequence[int]) -> Cost:
    bare_ms = runs.bare(PODS).cpu_ms
    asked = request_counts(server)
    before = {name: read() for name, read in clocks.items()}
    parts_ms = {"executable": runs.adds(pods).cpu_ms}
    time.sleep(REPORTED_S)
    for name, read in clocks.items():
        parts_ms[name] = (read() - before[name]) * 1e3 / PODS
    return Cost(parts_ms, request_counts(server) - asked, bare_ms)


def _figures(costs: Sequence[Cost]) -> list[Figure]:
    bare_ms = median(cost.bare_ms for cost in costs)
    note = f"{PODS} Pods, {CALLERS} callers, read {REPORTED_S:g} s after the last ADD"
    compared_with = "the CPU of a bare interpreter's start"
    parts = [
        ratio_figure(
            f"kube_cpu_split_{part}",
            [cost.parts_ms[part] / cost.bare_ms for cost in costs],
            compared_with,
            f"{median(cost.parts_ms[part] for cost in costs):.2f} ms against {bare_ms:.2f} ms",
        )
        for part in costs[0].parts_ms
    ]
    all_ms = median(sum(cost.parts_ms.values()) for cost in costs)
    whole = ratio_figure(
        "kube_add_cpu_ratio",
        [sum(cost.parts_ms.values()) / cost.bare_ms for cost in costs],
        compared_with,
        f"{note}: {all_ms:.2f} ms against {bare_ms:.2f} ms",
    )
    return [whole, *parts, _requests(costs)]


def _requests(costs: Sequence[Cost]) -> Figure:
    """Requests of one ADD; the note has those of most kinds."""
    asked: Counter[str] = sum((cost.requests for cost in costs), Counter())
    count = PODS * len(costs)
    shown = (f"{name} {n / count:.2f}" for name, n in asked.most_common(REQUESTS_SHOWN_MAX))
    samples = tuple(cost.requests.total() / PODS for cost in costs)
    return Figure(
        "kube_requests_per_add", asked.total() / count, "requests", None, ", ".join(shown), samples
    )

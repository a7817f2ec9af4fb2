"""CPU time of all processes of a cluster per ADD, and requests to the API server per ADD.

The processes are the CNI executable, an agent, a controller, an API server and two etcds. The CPU
time that they use without ADDs is measured first and subtracted. The reference is an interpreter
that does nothing (the bare interpreter).

Figures are means, not medians: the API server collects garbage in about every second round, and
then uses twice the CPU time.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import Final, NamedTuple

from bench.figures import Figure
from bench.measures.executable import Executable, Runs
from bench.rig import processes
from bench.rig.cluster import Cluster, kubernetes_cluster
from bench.rig.kubernetes import request_counts
from bench.rig.lab import Lab

CALLERS: Final = 8
PODS: Final = 200
"""Pods of a round in a full run, and runs of the bare interpreter before and after each round."""

ROUNDS_MIN: Final = 3
"""In this number of rounds, the API server collects garbage at least once."""

WARM_UP_PODS: Final = 50
STATUS_WRITES_S: Final = 4.0
"""Seconds from the last ADD to reading the CPU time. Meanwhile, agent and controller write
SpiderEndpoints and the status of pools."""

IDLE_S_MAX: Final = 4.0

SETTLED_S: Final = 1.0
"""Seconds after the warm-up, in which the last status writes reach agent and controller."""

REQUESTS_SHOWN_MAX: Final = 8

Clocks = Mapping[str, Callable[[], float]]
"""Part of the cluster, such as "agent" -> function that returns its CPU seconds."""


class Cost(NamedTuple):
    """CPU time of one round, or the means of several rounds.

    ``parts_ms``: per ADD, the CPU time of the executable and of each part of ``Clocks``, without
    the idle CPU time. ``idle_ms``: per ADD, the CPU time that all parts would also use without
    ADDs. ``bare_ms``: per run of the bare interpreter.
    """

    parts_ms: dict[str, float]
    idle_ms: float
    bare_ms: float

    @property
    def ratio(self) -> float:
        """The CPU time per ADD divided by the CPU time of a bare interpreter."""
        return sum(self.parts_ms.values()) / self.bare_ms


def measure(lab: Lab) -> list[Figure]:
    """Measure kube_add_cpu_ratio, kube_cpu_split_* and kube_requests_per_add."""
    cluster = lab.shared(kubernetes_cluster)
    runs = Runs(lab, Executable(lab, cluster.agent.socket_path), CALLERS)
    controller = cluster.controller()
    clocks = {"agent": cluster.agent.cpu_s, "controller": controller.cpu_s}
    clocks |= _server_clocks(cluster)
    runs.adds(cluster.new_pods(WARM_UP_PODS))
    cluster.wait_idle()
    time.sleep(SETTLED_S)
    idle_shares = _shares(clocks, min(IDLE_S_MAX, lab.scale.quiet_s))
    requests_before = request_counts(cluster.server)
    count = PODS * ROUNDS_MIN if lab.scale.one_large_round else PODS
    rounds = lab.rounds(1) if lab.scale.one_large_round else lab.rounds(least=ROUNDS_MIN)
    costs = [_round(runs, clocks, idle_shares, cluster.new_pods(count)) for _ in rounds]
    requests = request_counts(cluster.server) - requests_before
    return [*_figures(costs, count), _requests_figure(requests, count * len(costs))]


def _server_clocks(cluster: Cluster) -> Clocks:
    server = cluster.server
    etcds = (cluster.api_etcd, cluster.log_etcd)
    members = [member.pid for etcd in etcds for member in etcd.members]
    return {
        "api_server": lambda: processes.cpu_s(server.pid),
        "etcd": lambda: sum(map(processes.cpu_s, members)),
    }


def _shares(clocks: Clocks, seconds: float) -> dict[str, float]:
    """Wait; return the share of a core that each part used."""
    began, before = time.monotonic(), _read(clocks)
    time.sleep(seconds)
    elapsed_s = time.monotonic() - began
    return {name: (now - before[name]) / elapsed_s for name, now in _read(clocks).items()}


def _round(
    runs: Runs, clocks: Clocks, idle_shares: Mapping[str, float], pods: Sequence[int]
) -> Cost:
    bare_ms = [runs.bare_interpreters(PODS).cpu_ms]
    began, before = time.monotonic(), _read(clocks)
    parts_ms = {"executable": runs.adds(pods).cpu_ms}
    time.sleep(STATUS_WRITES_S)
    elapsed_s = time.monotonic() - began
    for name, now in _read(clocks).items():
        parts_ms[name] = (now - before[name] - idle_shares[name] * elapsed_s) * 1e3 / len(pods)
    bare_ms.append(runs.bare_interpreters(PODS).cpu_ms)
    idle_ms = sum(idle_shares.values()) * elapsed_s * 1e3 / len(pods)
    return Cost(parts_ms, idle_ms, fmean(bare_ms))


def _read(clocks: Clocks) -> dict[str, float]:
    return {name: read() for name, read in clocks.items()}


def _figures(costs: Sequence[Cost], pods: int) -> list[Figure]:
    parts = {name: fmean(cost.parts_ms[name] for cost in costs) for name in costs[0].parts_ms}
    mean_cost = Cost(
        parts, fmean(cost.idle_ms for cost in costs), fmean(cost.bare_ms for cost in costs)
    )
    unit = "x the CPU time of a bare interpreter"
    against = f"against {mean_cost.bare_ms:.2f} ms of a bare interpreter"
    add_ms = sum(parts.values())
    note = (
        f"{len(costs)} rounds of {pods} Pods, {CALLERS} callers, read {STATUS_WRITES_S:g} s after"
        f" the last ADD: {add_ms:.2f} ms {against}; {add_ms + mean_cost.idle_ms:.2f} ms with the"
        " CPU time that the processes use if there are no ADDs"
    )
    samples = tuple(cost.ratio for cost in costs)
    figures = [
        Figure(
            "kube_add_cpu_ratio", mean_cost.ratio, unit, reference=1.0, note=note, samples=samples
        )
    ]
    for part, used_ms in parts.items():
        samples = tuple(cost.parts_ms[part] / cost.bare_ms for cost in costs)
        ratio, text = used_ms / mean_cost.bare_ms, f"{used_ms:.2f} ms {against}"
        figures.append(
            Figure(f"kube_cpu_split_{part}", ratio, unit, reference=1.0, note=text, samples=samples)
        )
    return figures


def _requests_figure(requests: Counter[str], adds: int) -> Figure:
    shown = (
        f"{kind} {count / adds:.2f}" for kind, count in requests.most_common(REQUESTS_SHOWN_MAX)
    )
    return Figure(
        "kube_requests_per_add",
        requests.total() / adds,
        "requests",
        note=", ".join(shown),
    )

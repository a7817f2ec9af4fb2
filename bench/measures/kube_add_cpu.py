"""CPU time of all processes of a cluster per ADD, and requests to the API server per ADD.

Eight callers run the CNI executable for 200 Pods. The other processes are an API server, an agent,
a controller and two etcds: one for the API server, one for agent and controller. The CPU time that
these processes use without ADDs is measured first and subtracted. The reference is the CPU time of
an interpreter that does nothing.

Figures are means of all rounds, not medians: the API server collects garbage in about every second
round, and then uses twice the CPU time. A quick run has one large round.
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
"""Pods of one round. A bare interpreter runs this often before each round and after each round."""

ROUNDS_MIN: Final = 3
"""The smallest number of rounds of a full run: the API server collects garbage in at least one
round. The one large round of a quick run has ``PODS * ROUNDS_MIN`` Pods."""

WARM_UP_PODS: Final = 50
STATUS_WRITES_S: Final = 4.0
"""Seconds from the last ADD until the CPU time is read. In this time, agent and controller write
SpiderEndpoints and the status of pools."""

IDLE_S_MAX: Final = 4.0
"""The longest time, in seconds, for which the processes are measured without ADDs."""

SETTLED_S: Final = 1.0
"""Seconds between the warm-up and the measurement without ADDs, in which the last status writes
reach the watches of agent and controller."""

REQUESTS_SHOWN_MAX: Final = 8
"""Kinds of requests in the note of ``kube_requests_per_add``, the most frequent first."""

Clocks = Mapping[str, Callable[[], float]]
"""Part of the cluster (such as "agent") -> function that returns the part's CPU seconds."""


class Cost(NamedTuple):
    """CPU time of one round, or the means of several rounds.

    ``parts_ms``: per ADD, the CPU time of the executable and of each part of ``Clocks``, without
    idle CPU time. ``idle_ms``: per ADD, the idle CPU time: what all parts use in the duration of a
    round if there are no ADDs. ``bare_ms``: the CPU time of one bare interpreter.
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
    members = [member.pid for etcd in (cluster.objects, cluster.log) for member in etcd.members]
    return {
        "api_server": lambda: processes.cpu_s(server.pid),
        "etcd": lambda: sum(map(processes.cpu_s, members)),
    }


def _shares(clocks: Clocks, seconds: float) -> dict[str, float]:
    """Wait for this many seconds; return the share of a core that each part used."""
    began, before = time.monotonic(), _read(clocks)
    time.sleep(seconds)
    elapsed_s = time.monotonic() - began
    return {name: (now - before[name]) / elapsed_s for name, now in _read(clocks).items()}


def _round(
    runs: Runs, clocks: Clocks, idle_shares: Mapping[str, float], pods: Sequence[int]
) -> Cost:
    """Run the ADDs of these Pods, with bare interpreters before and after."""
    bare_ms = [runs.bare(PODS).cpu_ms]
    began, before = time.monotonic(), _read(clocks)
    parts_ms = {"executable": runs.adds(pods).cpu_ms}
    time.sleep(STATUS_WRITES_S)
    elapsed_s = time.monotonic() - began
    for name, now in _read(clocks).items():
        parts_ms[name] = (now - before[name] - idle_shares[name] * elapsed_s) * 1e3 / len(pods)
    bare_ms.append(runs.bare(PODS).cpu_ms)
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
    """The figure of requests per ADD. The note lists the most frequent kinds of requests."""
    shown = (
        f"{kind} {count / adds:.2f}" for kind, count in requests.most_common(REQUESTS_SHOWN_MAX)
    )
    return Figure(
        "kube_requests_per_add",
        requests.total() / adds,
        "requests",
        note=", ".join(shown),
    )

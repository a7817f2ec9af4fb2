"""CPU of all processes of a cluster per ADD, and requests to the API server per ADD.

Eight callers run the executable for 200 Pods of the API server, with agent and controller. The API
server has its own etcd. The CPU is read 4 s after the last ADD, when all reports are written. The
CPU that the processes use without ADDs is measured before and subtracted; the note also has the sum
without this subtraction. The result is compared with the CPU of the start of a bare interpreter,
before and after.

Figures are means of all rounds, not medians: in some rounds the API server collects garbage, which
the ADDs of all rounds cause, and then uses twice the CPU. A quick run has one round, with as
many Pods as the smallest number of rounds of a full run has together.
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
"""Pods of one round, and runs of a bare interpreter before and after it."""

ROUNDS_MIN: Final = 3
"""The API server collects garbage in about every second round."""

WARM_UP_PODS: Final = 50
REPORTED_S: Final = 4.0
"""Seconds from the last ADD until the CPU is read."""

IDLE_S_MAX: Final = 4.0
"""Seconds in which the processes are measured without ADDs; a quick run takes fewer."""

SETTLED_S: Final = 1.0
"""Seconds between the warm-up and that measurement: the last status writes reach their watchers."""

REQUESTS_SHOWN_MAX: Final = 8
"""Kinds of requests in the note, the most frequent first."""

Clocks = Mapping[str, Callable[[], float]]
"""Functions that return the CPU seconds of each part, except the executable."""


class Cost(NamedTuple):
    """CPU of each part per ADD and of a bare interpreter, in one round or as means of several.

    ``idle_ms``: CPU of the parts without ADDs in the same time; ``parts_ms`` do not include it.
    """

    parts_ms: dict[str, float]
    idle_ms: float
    bare_ms: float

    @property
    def ratio(self) -> float:
        """The CPU per ADD over that of a bare interpreter."""
        return sum(self.parts_ms.values()) / self.bare_ms


def measure(lab: Lab) -> list[Figure]:
    """kube_add_cpu_ratio, kube_cpu_split_*, kube_requests_per_add."""
    cluster = lab.shared(kubernetes_cluster)
    runs = Runs(lab, Executable(lab, cluster.agent.socket_path), CALLERS)
    controller = cluster.controller()
    clocks = {"agent": cluster.agent.cpu_s, "controller": controller.cpu_s}
    clocks |= _servers(cluster)
    runs.adds(cluster.new_pods(WARM_UP_PODS))
    cluster.wait_idle()
    time.sleep(SETTLED_S)
    idle_shares = _shares(clocks, min(IDLE_S_MAX, lab.scale.quiet_s))
    request_count = request_counts(cluster.server)
    count = PODS * ROUNDS_MIN if lab.scale.rounds_joined else PODS
    rounds = lab.rounds(1) if lab.scale.rounds_joined else lab.rounds(least=ROUNDS_MIN)
    costs = [_round(runs, clocks, idle_shares, cluster.new_pods(count)) for _ in rounds]
    request_count = request_counts(cluster.server) - request_count
    return [*_figures(costs, count), _requests(request_count, count * len(costs))]


def _servers(cluster: Cluster) -> Clocks:
    server = cluster.server
    members = [member.pid for etcd in (cluster.objects, cluster.log) for member in etcd.members]
    return {
        "api_server": lambda: processes.cpu_s(server.pid),
        "etcd": lambda: sum(map(processes.cpu_s, members)),
    }


def _shares(clocks: Clocks, seconds: float) -> dict[str, float]:
    """The share of a core that each part uses during the next seconds."""
    began, before = time.monotonic(), _read(clocks)
    time.sleep(seconds)
    elapsed_s = time.monotonic() - began
    return {name: (now - before[name]) / elapsed_s for name, now in _read(clocks).items()}


def _round(
    runs: Runs, clocks: Clocks, idle_shares: Mapping[str, float], pods: Sequence[int]
) -> Cost:
    bare_ms = [runs.bare(PODS).cpu_ms]
    began, before = time.monotonic(), _read(clocks)
    parts_ms = {"executable": runs.adds(pods).cpu_ms}
    time.sleep(REPORTED_S)
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
    whole = Cost(
        parts, fmean(cost.idle_ms for cost in costs), fmean(cost.bare_ms for cost in costs)
    )
    unit = "x the CPU of a bare interpreter's start"
    against = f"against {whole.bare_ms:.2f} ms"
    added_ms = sum(parts.values())
    note = (
        f"{len(costs)} rounds of {pods} Pods, {CALLERS} callers, read {REPORTED_S:g} s after the"
        f" last ADD: {added_ms:.2f} ms {against}; {added_ms + whole.idle_ms:.2f} ms with what the"
        " processes use without any ADD"
    )
    samples = tuple(cost.ratio for cost in costs)
    figures = [Figure("kube_add_cpu_ratio", whole.ratio, unit, 1.0, note, samples)]
    for part, used_ms in parts.items():
        samples = tuple(cost.parts_ms[part] / cost.bare_ms for cost in costs)
        ratio, text = used_ms / whole.bare_ms, f"{used_ms:.2f} ms {against}"
        figures.append(Figure(f"kube_cpu_split_{part}", ratio, unit, 1.0, text, samples))
    return figures


def _requests(counts: Counter[str], adds: int) -> Figure:
    """The figure of requests per ADD; the note has the most frequent kinds."""
    shown = (f"{name} {n / adds:.2f}" for name, n in counts.most_common(REQUESTS_SHOWN_MAX))
    return Figure(
        "kube_requests_per_add", counts.total() / adds, "requests", None, ", ".join(shown)
    )

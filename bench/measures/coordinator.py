"""The coordinator's ADD and DEL: CPU time, waiting time, and leaks.

``measure`` and ``measure_concurrent`` run the coordinator in threads of this process, for Pods with
a dual-stack NIC. ``measure_executable`` runs the executable, for Pods with an IPv4 NIC.
"""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from math import ceil
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from bench.figures import Figure, median_figure
from bench.rig.lab import Lab
from nodeagent.handlers.coordinator_handler import COORDINATOR_THREADS
from nodeagent.netlink.namespaces import NetworkNamespace
from nodeagent.netlink.numbers import NUD_PERMANENT
from ops.lab.laboratory import Laboratory
from ops.lab.node import Node as LabNode
from ops.lab.sandbox import Sandbox
from tests.support.network_harness import SERVICE_CIDRS, NetworkHarness, NetworkNode, NetworkPod

OPTIONS: dict[str, Any] = {"serviceCIDR": list(SERVICE_CIDRS), "hijackCIDR": ["169.254.0.0/16"]}
ADDS_A_ROUND = 20

ADDS_AND_DELS = 10_000
CONCURRENT = 32

MEMORY_DIRECTORY = "/dev/shm"

EXECUTIONS_A_ROUND = 5

POOLS = """
apiVersion: spiderpool.spidernet.io/v2beta1
kind: SpiderIPPool
metadata: {name: four}
spec: {subnet: 10.6.0.0/16, ips: [10.6.1.0-10.6.9.255], gateway: 10.6.0.1, default: true}
"""


class CallTimes(NamedTuple):
    """The CPU time of one call, and the rest of the elapsed time."""

    cpu_ms: float
    waiting_ms: float


def measure(lab: Lab) -> list[Figure]:
    """Measure coordinator_add_ms, coordinator_kernel_wait_ms and coordinator_del_ms."""
    adds: list[CallTimes] = []
    dels: list[CallTimes] = []
    with _network() as network, _workers(network, 1) as worker:
        node = network.node()
        for _ in lab.rounds():
            pods = [_pod(network, node, number) for number in range(ADDS_A_ROUND)]
            adds += [worker.submit(_timed, _add_call(pod)).result() for pod in pods]
            dels += [worker.submit(_timed, pod.delete).result() for pod in pods]
    note = f"{len(adds)} Pods with one NIC of both families"
    waiting_ms = [call.waiting_ms for call in adds]
    return [
        median_figure("coordinator_add_ms", [call.cpu_ms for call in adds], "ms", note=note),
        median_figure("coordinator_kernel_wait_ms", waiting_ms, "ms", note="of the same ADDs"),
        median_figure(
            "coordinator_del_ms",
            [call.cpu_ms for call in dels],
            "ms",
            note=f"besides {median(call.waiting_ms for call in dels):.1f} ms of waiting",
        ),
    ]


def measure_executable(lab: Lab) -> list[Figure]:
    """Measure coordinator_exec_ms."""
    durations_ms: list[float] = []
    with Laboratory() as laboratory:
        applied = laboratory.orbctl("apply", "-f", "-", stdin=POOLS)
        assert applied.returncode == 0, applied.stderr
        node = laboratory.node("node-a")
        for round_number in lab.rounds():
            for number in range(EXECUTIONS_A_ROUND):
                sandbox = laboratory.sandbox(f"web-{round_number}-{number}")
                result = node.runtime.add(sandbox)
                durations_ms.append(_executable_ms(node, sandbox, result))
    note = f"{len(durations_ms)} ADDs of Pods with one NIC"
    return [median_figure("coordinator_exec_ms", durations_ms, "ms", note=note)]


def measure_concurrent(lab: Lab) -> list[Figure]:
    """Measure coordinator_add_32_ms and leaks_after_10k (objects left after 10,000 ADDs and DELs).

    As many threads work as in an agent, so that the kernel's grace periods (30 ms for each DEL)
    overlap.
    """
    durations_ms: list[float] = []
    with _network() as network, _workers(network, COORDINATOR_THREADS) as workers:
        node = network.node()
        pods = [_pod(network, node, number) for number in range(CONCURRENT)]

        def add_and_delete_all() -> None:
            began = time.perf_counter()
            _wait_all(workers.submit(_add_call(pod)) for pod in pods)
            durations_ms.append((time.perf_counter() - began) * 1e3)
            _wait_all(workers.submit(pod.delete) for pod in pods)

        # The first call creates threads, rules and routing tables that stay; they are not leaks.
        add_and_delete_all()
        before = _count_objects(node, pods)
        for _ in lab.rounds(ceil(ADDS_AND_DELS / CONCURRENT)):
            add_and_delete_all()
        after = _count_objects(node, pods)
    growth = {kind: after[kind] - before[kind] for kind in after if after[kind] > before[kind]}
    note = f"{(len(durations_ms) - 1) * CONCURRENT} ADDs and DELs; counted: {', '.join(before)}"
    return [
        median_figure(
            "coordinator_add_32_ms",
            durations_ms,
            "ms",
            note=f"{CONCURRENT} Pods, {COORDINATOR_THREADS} workers",
        ),
        Figure(
            "leaks_after_10k",
            sum(growth.values()),
            "objects left",
            note=str(growth or note),
        ),
    ]


@contextmanager
def _network() -> Iterator[NetworkHarness]:
    """A network harness with its attachment records in memory, like /run on a node."""
    with TemporaryDirectory(prefix="ow-bench-", dir=MEMORY_DIRECTORY) as directory:
        network = NetworkHarness(Path(directory))
        try:
            yield network
        finally:
            network.close()


def _workers(network: NetworkHarness, count: int) -> ThreadPoolExecutor:
    """Threads that do the netlink work themselves, so that their CPU time includes it."""
    return ThreadPoolExecutor(count, initializer=network.executor.let_thread_enter_namespaces)


def _wait_all(calls: Iterable[Future[object]]) -> None:
    for call in list(calls):
        call.result()


def _pod(network: NetworkHarness, node: NetworkNode, number: int) -> NetworkPod:
    pod = network.pod(node, f"p{number}")
    pod.macvlan("eth0", f"10.6.0.{101 + number}/24", f"fd00:6::{101 + number:x}/64")
    return pod


def _add_call(pod: NetworkPod) -> Callable[[], object]:
    return lambda: pod.add(**OPTIONS)


def _timed(call: Callable[[], object]) -> CallTimes:
    cpu_began, began = time.thread_time(), time.perf_counter()
    call()
    cpu_s, elapsed_s = time.thread_time() - cpu_began, time.perf_counter() - began
    return CallTimes(cpu_s * 1e3, (elapsed_s - cpu_s) * 1e3)


def _executable_ms(node: LabNode, sandbox: Sandbox, result: dict[str, Any]) -> float:
    """Run an ADD; return the milliseconds. ``result``: the result of IPAM."""
    conf = {
        "cniVersion": "1.0.0",
        "name": "lab",
        "type": "coordinator",
        "ipam_unix_socket_path": str(node.socket),
        "prevResult": result,
        **OPTIONS,
    }
    variables = {
        "CNI_COMMAND": "ADD",
        "CNI_CONTAINERID": sandbox.container,
        "CNI_NETNS": str(sandbox.namespace.path),
        "CNI_IFNAME": "eth0",
        "CNI_ARGS": sandbox.arguments,
    }
    netconf = node.directory / "netconf"
    netconf.write_text(json.dumps(conf))
    with netconf.open("rb") as stdin:
        began = time.perf_counter()
        process = subprocess.Popen(
            [str(node.plugins / "coordinator")],
            env=variables,
            stdin=stdin,
            stdout=subprocess.DEVNULL,
        )
        # With a timeout, Python would poll for the exit at growing intervals.
        status = process.wait()
        duration_ms = (time.perf_counter() - began) * 1e3
    assert status == 0
    return duration_ms


def _count_objects(node: NetworkNode, pods: Sequence[NetworkPod]) -> dict[str, int]:
    kernel_objects = Counter[str]()
    for inside in (node.inside, *(pod.inside for pod in pods)):
        with (
            NetworkNamespace.open(str(inside.path)) as namespace,
            node.network.executor.session(namespace) as session,
        ):
            kernel_objects["links"] += len(session.links())
            kernel_objects["rules"] += len(session.rules())
            kernel_objects["routes"] += len(session.routes())
            entries = session.neighbours()
            kernel_objects["neighbours"] += sum(
                bool(entry.state & NUD_PERMANENT) for entry in entries
            )
    return {
        "threads": threading.active_count(),
        "descriptors": len(list(Path("/proc/self/fd").iterdir())),
        "records": len(list(node.records.all())),
        **kernel_objects,
    }

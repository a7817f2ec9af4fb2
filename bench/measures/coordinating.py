"""The coordinator: what an ADD and a DEL of one dual-stack NIC compute, wait for, and leave behind.

Computing is the processor time of the worker thread, ours and the kernel's for it. Waiting is the
rest of the time by the clock: the kernel's locks and grace periods, and whatever else the machine
does. The executable is measured as a process from start to end, with agent and etcd behind it.
"""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from bench.figures import Figure, median_figure
from bench.rig.lab import Lab
from ops.lab.laboratory import Laboratory
from ops.lab.node import Node as LabNode
from ops.lab.sandbox import Sandbox
from tests.coordinator.world import SERVICES, Node, Pod, World

SAID: dict[str, Any] = {"serviceCIDR": list(SERVICES), "hijackCIDR": ["169.254.0.0/16"]}
ADDS = 20
"""In one round."""

CYCLES = 10_000
CALLS = 5
"""Of the executable in one round."""

POOLS = """
apiVersion: spiderpool.spidernet.io/v2beta1
kind: SpiderIPPool
metadata: {name: four}
spec: {subnet: 10.6.0.0/16, ips: [10.6.1.0-10.6.9.255], gateway: 10.6.0.1, default: true}
"""


class Took(NamedTuple):
    """Milliseconds of one call."""

    computing: float
    waiting: float


def measure(lab: Lab) -> list[Figure]:
    """coordinator_add_ms, coordinator_kernel_wait_ms, coordinator_del_ms."""
    world = World(lab.room("world"))
    adds: list[Took] = []
    dels: list[Took] = []
    try:
        node = world.node()
        with ThreadPoolExecutor(1, initializer=world.visitor.travels) as worker:
            for _ in lab.rounds():
                pods = [_pod(world, node, number) for number in range(ADDS)]
                adds += [worker.submit(_timed, _adding(pod)).result() for pod in pods]
                dels += [worker.submit(_timed, pod.delete).result() for pod in pods]
    finally:
        world.close()
    note = f"{len(adds)} Pods with one NIC of both families"
    waiting = [one.waiting for one in adds]
    return [
        median_figure("coordinator_add_ms", [one.computing for one in adds], "ms", note=note),
        median_figure("coordinator_kernel_wait_ms", waiting, "ms", note="of the same ADDs"),
        median_figure(
            "coordinator_del_ms",
            [one.computing for one in dels],
            "ms",
            note=f"besides {median(one.waiting for one in dels):.1f} ms in which the kernel waits",
        ),
    ]


def measure_executable(lab: Lab) -> list[Figure]:
    """coordinator_exec_ms."""
    took: list[float] = []
    with Laboratory() as laboratory:
        applied = laboratory.orbctl("apply", "-f", "-", stdin=POOLS)
        assert applied.returncode == 0, applied.stderr
        node = laboratory.node("node-a")
        for turn in lab.rounds():
            for number in range(CALLS):
                sandbox = laboratory.sandbox(f"web-{turn}-{number}")
                result = node.runtime.add(sandbox)
                took.append(_executed(node, sandbox, result))
    note = f"{len(took)} ADDs: process, agent and kernel, one NIC"
    return [median_figure("coordinator_exec_ms", took, "ms", note=note)]


def measure_leaks(lab: Lab) -> list[Figure]:
    """leaks_after_10k: what has grown after so many ADDs and DELs of one Pod."""
    world = World(lab.room("world"))
    cycles = 0
    try:
        node = world.node()
        pod = _pod(world, node, 0)
        with ThreadPoolExecutor(1, initializer=world.visitor.travels) as worker:

            def cycle() -> None:
                worker.submit(_adding(pod)).result()
                worker.submit(pod.delete).result()

            cycle()
            before = _counted(node, pod)
            for _ in lab.rounds(CYCLES):
                cycle()
                cycles += 1
            after = _counted(node, pod)
    finally:
        world.close()
    grown = {what: after[what] - before[what] for what in after if after[what] > before[what]}
    note = f"{cycles} cycles; counted: {', '.join(before)}"
    return [Figure("leaks_after_10k", sum(grown.values()), "left", None, str(grown or note))]


def _pod(world: World, node: Node, number: int) -> Pod:
    pod = world.pod(node, f"p{number}")
    pod.macvlan("eth0", f"10.6.0.{101 + number}/24", f"fd00:6::{101 + number:x}/64")
    return pod


def _adding(pod: Pod) -> Callable[[], object]:
    return lambda: pod.add(**SAID)


def _timed(call: Callable[[], object]) -> Took:
    computing, began = time.thread_time(), time.perf_counter()
    call()
    computing, took = time.thread_time() - computing, time.perf_counter() - began
    return Took(computing * 1e3, (took - computing) * 1e3)


def _executed(node: LabNode, sandbox: Sandbox, result: dict[str, Any]) -> float:
    conf = {
        "cniVersion": "1.0.0",
        "name": "lab",
        "type": "coordinator",
        "ipam_unix_socket_path": str(node.socket),
        "prevResult": result,
        **SAID,
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
        # Without a timeout: with one, Python sleeps for ever longer times between two looks.
        status = process.wait()
        took_ms = (time.perf_counter() - began) * 1e3
    assert status == 0
    return took_ms


def _counted(node: Node, pod: Pod) -> dict[str, int]:
    found = {
        "threads": threading.active_count(),
        "descriptors": len(list(Path("/proc/self/fd").iterdir())),
        "records": len(list(node.records.all())),
    }
    for side in (node.inside, pod.inside):
        for what, command in (
            ("links", ("link",)),
            ("rules", ("rule",)),
            ("routes", ("route", "show", "table", "all")),
            ("neighbours", ("neigh", "show", "nud", "permanent")),
        ):
            lines = side.ip("-4", *command) + side.ip("-6", *command)
            found[what] = found.get(what, 0) + len(lines.splitlines())
    return found

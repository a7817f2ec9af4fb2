"""The steps of the demo that need features of this machine's kernel: node to Pod, and a Service.

``able`` tries the features first; a step without its feature prints one line and is skipped.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Final

from core.errors import DatapathError
from nodeagent.clusterip.pods import cgroup2_mounts
from nodeagent.clusterip.program_loader import trial
from nodeagent.clusterip.programs import DesiredPrograms
from nodeagent.netlink.namespaces import NetnsExecutor
from ops.demo.demo_output import expect
from ops.demo.demo_state import DemoState, MissingCapability
from ops.diagnostics.kernel_features import abilities
from ops.lab.identity import LabFailed
from ops.lab.node import can_make

COORDINATOR: Final = {"mode": "auto", "serviceCIDR": ["10.96.0.0/16", "fd00:96::/112"]}
SERVICE: Final = "ops/demo/service.yaml"
SERVICES: Final = ("10.96.0.10", "fd00:96::10")
BACKENDS: Final = ("web-1", "web-2")
PORT: Final = 80
BACKEND_PORT: Final = 8080
SERVED_S_MAX: Final = 10.0
ASKED: Final = 32
"""Connections after which both backends have answered, but for one case in 2**31."""


def able() -> MissingCapability:
    """What this kernel lacks for the steps; tried in a temporary namespace."""
    executor = NetnsExecutor()
    try:
        faults = {feature.name: feature.why_not for feature in abilities(executor)}
    except OSError as error:
        faults = {"reply marks": str(error)}
    finally:
        executor.close()
    marks_fault = next((why for name, why in faults.items() if "reply marks" in name and why), "")
    return MissingCapability(marks_fault, _no_services())


def _no_services() -> str:
    if not cgroup2_mounts():
        return "cgroup v2 is not mounted"
    try:
        trial(DesiredPrograms(0))
    except DatapathError as error:
        return str(error)
    return "" if can_make() else "this process cannot create cgroups"


def reach_node(state: DemoState) -> None:
    """A Pod and its node reach each other, which macvlan alone prevents."""
    stage = state.stage
    if state.able.no_veths:
        stage.say(f"(Node to Pod is left out: {state.able.no_veths})")
        return
    node = state.node_a
    pod = state.pods["web-0"].addresses[0]
    stage.say(
        "A Pod and its own node, which macvlan separates, through the coordinator's veth pair:"
    )
    stage.command(f"ping {pod}", place=node.name)
    rows = [
        (f"{pod} from {node.name}", state.pinged_from(node, pod)),
        (f"{node.address} from web-0", state.pinged("web-0", node.address)),
    ]
    stage.table(("PING", "ANSWERED AFTER"), rows)


def serve(state: DemoState) -> None:
    """A Service without kube-proxy."""
    stage, laboratory = state.stage, state.laboratory
    stage.step(
        "A Service without kube-proxy",
        """web-1 on node-a and web-2 on node-b return their names to each client. The agent writes
        the Service and its endpoints into maps of the kernel. A program in the kernel replaces the
        ClusterIP in the sockets of web-0 by a backend, before there is a packet.""",
    )
    if state.able.no_services:
        stage.say(f"(Left out: {state.able.no_services})")
        return
    speakers = [laboratory.speaker(state.pods[name], BACKEND_PORT) for name in BACKENDS]
    addresses = {
        f"{name}-{word}": address
        for name in BACKENDS
        for word, address in zip(("ipv4", "ipv6"), state.pods[name].addresses, strict=True)
    }
    state.apply_with(SERVICE, addresses)
    rows = [_asked(state, address) for address in SERVICES]
    stage.table(("ASKED", "THE SOCKET SEES", "ANSWERED BY"), rows)
    for speaker in speakers:
        speaker.kill()


def _asked(state: DemoState, address: str) -> tuple[str, ...]:
    arguments = ["-m", "ops.lab.pod_programs", "ask", address, str(PORT), str(ASKED)]
    state.stage.command(f"python {' '.join(arguments)}", place="web-0")
    began = time.monotonic()
    while True:
        try:
            output = state.node_a.run_in(state.pods["web-0"], sys.executable, *arguments)
        except LabFailed as error:
            # The agent reads it from the log, a moment after it was applied.
            expect(time.monotonic() - began < SERVED_S_MAX, f"{address} is not served: {error}")
            continue
        result = json.loads(output)
        break
    answers = result["answers"]
    expect(set(answers) == set(BACKENDS), f"{address} was answered by {answers}")
    counts = ", ".join(f"{name} {count} times" for name, count in answers.items())
    return address, result["peer"], counts

"""What of the datapath this machine's kernel can show: nodes and Pods, and a Service.

Asked before anything is made, so that a machine that cannot says so in one line and shows the rest.
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
from ops.lab.groups import can_make
from ops.lab.identity import LabFailed

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
    """What can be shown, tried where nobody is disturbed."""
    executor = NetnsExecutor()
    try:
        found = {one.name: one.why_not for one in abilities(executor)}
    except OSError as error:
        found = {"reply marks": str(error)}
    finally:
        executor.close()
    wires = next((why for name, why in found.items() if "reply marks" in name and why), "")
    return MissingCapability(wires, _no_services())


def _no_services() -> str:
    if not cgroup2_mounts():
        return "cgroup v2 is not mounted"
    try:
        trial(DesiredPrograms(0))
    except DatapathError as error:
        return str(error)
    return "" if can_make() else "this process cannot create cgroups"


def meet_the_node(scene: DemoState) -> None:
    """Pod and node, which macvlan alone would keep apart."""
    stage = scene.stage
    if scene.able.no_wires:
        stage.say(f"(Node to Pod is left out: {scene.able.no_wires})")
        return
    node = scene.node_a
    pod = scene.pods["web-0"].addresses[0]
    stage.say(
        "A Pod and its own node, which macvlan separates, through the coordinator's veth pair:"
    )
    stage.command(f"ping {pod}", place=node.name)
    rows = [
        (f"{pod} from {node.name}", scene.pinged_from(node, pod)),
        (f"{node.address} from web-0", scene.pinged("web-0", node.address)),
    ]
    stage.table(("PING", "ANSWERED AFTER"), rows)


def serve(scene: DemoState) -> None:
    """A Service without kube-proxy."""
    stage, laboratory = scene.stage, scene.laboratory
    stage.step(
        "A Service without kube-proxy",
        """web-1 on node-a and web-2 on node-b return their names to each client. The agent writes
        the Service and its endpoints into maps of the kernel. A program in the kernel replaces the
        ClusterIP in the sockets of web-0 by a backend, before there is a packet.""",
    )
    if scene.able.no_services:
        stage.say(f"(Left out: {scene.able.no_services})")
        return
    speakers = [laboratory.speaker(scene.pods[name], BACKEND_PORT) for name in BACKENDS]
    places = {
        f"{name}-{word}": address
        for name in BACKENDS
        for word, address in zip(("ipv4", "ipv6"), scene.pods[name].addresses, strict=True)
    }
    scene.apply_with(SERVICE, places)
    rows = [_asked(scene, address) for address in SERVICES]
    stage.table(("ASKED", "THE SOCKET SEES", "ANSWERED BY"), rows)
    for speaker in speakers:
        speaker.kill()


def _asked(scene: DemoState, address: str) -> tuple[str, ...]:
    words = ["-m", "ops.lab.pod_programs", "ask", address, str(PORT), str(ASKED)]
    scene.stage.command(f"python {' '.join(words)}", place="web-0")
    began = time.monotonic()
    while True:
        try:
            said = scene.node_a.run_in(scene.pods["web-0"], sys.executable, *words)
        except LabFailed as error:
            # The agent hears of it in the log, a moment after it is applied.
            expect(time.monotonic() - began < SERVED_S_MAX, f"{address} is not served: {error}")
            continue
        heard = json.loads(said)
        break
    answers = heard["answers"]
    expect(set(answers) == set(BACKENDS), f"{address} was answered by {answers}")
    counts = ", ".join(f"{name} {count} times" for name, count in answers.items())
    return address, heard["peer"], counts

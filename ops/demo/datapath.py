"""The steps of the demo that need reply marks, or eBPF and cgroups.

A step without its feature is skipped. Reply marks are firewall rules by which a Pod
answers its node through the veth pair.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Final

from core.domain.validation.common_rules import counted
from core.errors import DatapathError
from nodeagent.clusterip.bpf_programs import DesiredPrograms
from nodeagent.clusterip.pod_cgroups import cgroup2_mounts
from nodeagent.clusterip.program_loader import try_loading
from nodeagent.netlink.namespaces import NetnsExecutor
from ops.demo.demo_output import expect
from ops.demo.demo_state import DemoState, MissingCapability
from ops.diagnostics.kernel_features import try_kernel_features
from ops.lab.identity import LabFailed
from ops.lab.node import can_create_cgroups

COORDINATOR_FIELDS: Final = {"mode": "auto", "serviceCIDR": ["10.96.0.0/16", "fd00:96::/112"]}
SERVICE_FILE: Final = "ops/demo/service.yaml"
CLUSTER_IPS: Final = ("10.96.0.10", "fd00:96::10")
BACKENDS: Final = ("web-1", "web-2")
PORT: Final = 80
BACKEND_PORT: Final = 8080
SERVED_S_MAX: Final = 10.0

CONNECTIONS: Final = 32
"""The chance that one backend gets all of them is 1 in 2**31."""


def missing_capability() -> MissingCapability:
    """Try the features of these steps; return what this machine lacks."""
    executor = NetnsExecutor()
    try:
        faults = {feature.name: feature.why_not for feature in try_kernel_features(executor)}
    except OSError as error:  # no network namespace could be created
        faults = {"reply marks": str(error)}
    finally:
        executor.close()
    no_marks = next((why for name, why in faults.items() if "reply marks" in name and why), "")
    return MissingCapability(no_marks, _services_fault())


def _services_fault() -> str:
    """Why this machine cannot serve Services, or ""."""
    if not cgroup2_mounts():
        return "cgroup v2 is not mounted"
    try:
        try_loading(DesiredPrograms(skipped_netns=0))
    except DatapathError as error:
        return str(error)
    return "" if can_create_cgroups() else "this process cannot create cgroups"


def reach_node(state: DemoState) -> None:
    """Show that a Pod and its node reach each other; with macvlan alone, they cannot."""
    printer = state.printer
    if state.missing.no_reply_marks:
        printer.say(f"(Node to Pod is skipped: {state.missing.no_reply_marks})")
        return
    node = state.node_a
    pod = state.pods["web-0"].addresses[0]
    printer.say("A Pod and its own node reach each other through the coordinator's veth pair:")
    printer.command(f"ping {pod}", place=node.name)
    rows = [
        (f"{pod} from {node.name}", state.pinged_from(node, pod)),
        (f"{node.address} from web-0", state.pinged("web-0", node.address)),
    ]
    printer.table(("PING", "ANSWERED AFTER"), rows)


def serve(state: DemoState) -> None:
    """Serve a Service without kube-proxy."""
    printer, laboratory = state.printer, state.laboratory
    printer.step(
        "A Service without kube-proxy",
        """web-1 on node-a and web-2 on node-b return their names to each client. The agent writes
        the Service and its endpoints into eBPF maps. When web-0 connects, an eBPF program replaces
        the ClusterIP in its socket by a backend, before a packet is sent.""",
    )
    if state.missing.no_services:
        printer.say(f"(Skipped: {state.missing.no_services})")
        return
    servers = [laboratory.serve_pod_name(state.pods[name], BACKEND_PORT) for name in BACKENDS]
    addresses = {
        f"{name}-{family}": address
        for name in BACKENDS
        for family, address in zip(("ipv4", "ipv6"), state.pods[name].addresses, strict=True)
    }
    state.apply_with(SERVICE_FILE, addresses)
    rows = [_connection_row(state, address) for address in CLUSTER_IPS]
    printer.table(("CONNECTED TO", "PEER OF THE SOCKET", "ANSWERED BY"), rows)
    for server in servers:
        server.kill()


def _connection_row(state: DemoState, address: str) -> tuple[str, ...]:
    """Connect from web-0 to an address of the Service."""
    arguments = ["-m", "ops.lab.pod_programs", "ask", address, str(PORT), str(CONNECTIONS)]
    state.printer.command(f"python {' '.join(arguments)}", place="web-0")
    began = time.monotonic()
    while True:
        try:
            output = state.node_a.run_in(state.pods["web-0"], sys.executable, *arguments)
        except LabFailed as error:
            # The agent may not have read the Service from the log yet.
            expect(time.monotonic() - began < SERVED_S_MAX, f"{address} is not served: {error}")
            continue
        result = json.loads(output)
        break
    answers = result["answers"]
    text = f"only {', '.join(answers)} answered at {address}, not both {' and '.join(BACKENDS)}"
    expect(set(answers) == set(BACKENDS), text)
    counts = ", ".join(f"{name} {counted(count, 'time')}" for name, count in answers.items())
    return address, result["peer"], counts

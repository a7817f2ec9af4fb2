"""The eBPF socket programs of ClusterIPs: their cost per connection and per change of a Service.

TCP connections over loopback in a separate namespace cost least, so the programs' share is largest.
Thousands of other Services are in the maps. The programs serve sockets that a process creates while
it is in the control group.
"""

from __future__ import annotations

import socket
import struct
import time
from statistics import median

from bench.figures import Figure, median_figure, ratio_figure
from bench.rig.lab import Lab
from nodeagent.clusterip.frontends import BackendGroup, Frontend, TransportAddress
from nodeagent.clusterip.installation import Installation
from nodeagent.clusterip.map_plan import Contents, plan
from tests.nodeagent.clusterip.clusterip_harness import (
    BACKEND_PORT,
    BACKENDS,
    PORT,
    SERVICE,
    ClusterIPHarness,
    frontend,
    places,
)

SERVICES = 10_000
BACKENDS_EACH = 10
CONNECTIONS = 1_000
"""In one turn."""

OWN = "0"
"""Written to a control group, it stands for the writing process."""

PROCESSES = "cgroup.procs"
RESET = struct.pack("ii", 1, 0)
"""SO_LINGER: closing resets the connection, so that no port stays in TIME_WAIT."""


def measure(lab: Lab) -> list[Figure]:
    """clusterip_connect_ratio, clusterip_change_ms."""
    bare = ClusterIPHarness(lab.new_directory("bare"))
    try:
        server = bare.server(BACKENDS[4][0])
        installation = bare.install()
        others = _others()
        served = others | {frontend(4): BackendGroup(places(4, 0))}
        steps, contents = plan(Contents(), served)
        installation.write(steps)
        direct, asked = [], []
        for _ in lab.rounds():
            (bare.cgroup.parent / PROCESSES).write_text(OWN)
            direct.append(_rate(bare, server, BACKENDS[4][0], BACKEND_PORT))
            (bare.cgroup / PROCESSES).write_text(OWN)
            asked.append(_rate(bare, server, SERVICE[4], PORT))
        changes = []
        for turn in lab.rounds():
            changed = list(others)[turn]
            fewer = served | {changed: BackendGroup(served[changed].backends[1:])}
            for wanted in (fewer, served):
                took, contents = _change(installation, contents, wanted)
                changes.append(took)
    finally:
        bare.close()
    ratios = [one / two for one, two in zip(asked, direct, strict=True)]
    note = f"{median(asked):,.0f} connections/s of processor time"
    return [
        ratio_figure("clusterip_connect_ratio", ratios, "the backend itself, without", note),
        median_figure(
            "clusterip_change_ms",
            changes,
            "ms",
            note=f"one of {SERVICES:,} Services with {BACKENDS_EACH} backends each",
        ),
    ]


def _rate(services: ClusterIPHarness, server: socket.socket, address: str, port: int) -> float:
    """Sequential connections per second of CPU time, user and system."""
    clients = [services.socket(4) for _ in range(CONNECTIONS)]
    began = time.thread_time()
    for client in clients:
        client.connect((address, port))
        server.accept()[0].close()
    took = time.thread_time() - began
    for client in clients:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        client.close()
    return CONNECTIONS / took


def _others() -> dict[Frontend, BackendGroup]:
    found = {}
    for number in range(SERVICES):
        address = (0xFFFF_0B00_0000 + number).to_bytes(16, "big")
        backends = tuple(TransportAddress(address, 1 + one) for one in range(BACKENDS_EACH))
        found[Frontend(address, PORT, 6)] = BackendGroup(backends)
    return found


def _change(
    installation: Installation, contents: Contents, wanted: dict[Frontend, BackendGroup]
) -> tuple[float, Contents]:
    """Milliseconds until the maps have the desired content."""
    began = time.perf_counter()
    steps, after = plan(contents, wanted)
    installation.write(steps)
    return (time.perf_counter() - began) * 1e3, after

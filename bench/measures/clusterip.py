"""The cost of the eBPF programs for ClusterIPs, per connection and per change of a Service.

Connections use loopback, where the programs have the largest share of a connection's cost. The
programs apply to sockets that this process creates while it is in the harness's cgroup.
"""

from __future__ import annotations

import socket
import struct
import time
from statistics import median

from bench.figures import Figure, median_figure, ratio_figure
from bench.rig.lab import Lab
from nodeagent.clusterip.bpf_installation import Installation
from nodeagent.clusterip.frontends import BackendGroup, Frontend, TransportAddress
from nodeagent.clusterip.map_plan import Contents, plan
from tests.nodeagent.clusterip.clusterip_harness import (
    BACKEND_ADDRESSES,
    BACKEND_PORT,
    SERVICE_ADDRESS,
    SERVICE_PORT,
    ClusterIPHarness,
    backends_of,
    frontend,
)

SERVICES = 10_000
BACKENDS_EACH = 10
CONNECTIONS = 1_000
"""Connections in each measurement of a rate."""

THIS_PROCESS = "0"
"""A process that writes this to a cgroup's ``PROCESSES`` file moves itself into the cgroup."""

PROCESSES = "cgroup.procs"
RESET = struct.pack("ii", 1, 0)
"""A value of SO_LINGER: closing resets the connection, so that no port stays in TIME_WAIT."""


def measure(lab: Lab) -> list[Figure]:
    """Measure clusterip_connect_ratio and clusterip_change_ms."""
    harness = ClusterIPHarness(lab.new_directory("bare"))
    try:
        server = harness.server(BACKEND_ADDRESSES[4][0])
        installation = harness.install()
        others = _other_services()
        served = others | {frontend(4): BackendGroup(backends_of(4, 0))}
        steps, contents = plan(Contents(), served)
        installation.write(steps)
        direct, via_cluster_ip = [], []
        for _ in lab.rounds():
            (harness.cgroup.parent / PROCESSES).write_text(THIS_PROCESS)
            direct.append(_rate(harness, server, BACKEND_ADDRESSES[4][0], BACKEND_PORT))
            (harness.cgroup / PROCESSES).write_text(THIS_PROCESS)
            via_cluster_ip.append(_rate(harness, server, SERVICE_ADDRESS[4], SERVICE_PORT))
        changes = []
        for number in lab.rounds():
            changed = list(others)[number]
            fewer = served | {changed: BackendGroup(served[changed].backends[1:])}
            for desired in (fewer, served):
                duration_ms, contents = _change(installation, contents, desired)
                changes.append(duration_ms)
    finally:
        harness.close()
    ratios = [rate / direct_rate for rate, direct_rate in zip(via_cluster_ip, direct, strict=True)]
    note = f"{median(via_cluster_ip):,.0f} connections per CPU second"
    return [
        ratio_figure("clusterip_connect_ratio", ratios, "connections to the backend itself", note),
        median_figure(
            "clusterip_change_ms",
            changes,
            "ms",
            note=f"one of {SERVICES:,} Services with {BACKENDS_EACH} backends each",
        ),
    ]


def _rate(harness: ClusterIPHarness, server: socket.socket, address: str, port: int) -> float:
    """Make sequential connections; return their number per second of CPU time, user and system."""
    clients = [harness.socket(4) for _ in range(CONNECTIONS)]
    began = time.thread_time()
    for client in clients:
        client.connect((address, port))
        server.accept()[0].close()
    cpu_s = time.thread_time() - began
    for client in clients:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        client.close()
    return CONNECTIONS / cpu_s


def _other_services() -> dict[Frontend, BackendGroup]:
    """Services with addresses from 11.0.0.0 on, in the IPv4-mapped form of IPv6."""
    services = {}
    for number in range(SERVICES):
        address = (0xFFFF_0B00_0000 + number).to_bytes(16, "big")
        backends = tuple(TransportAddress(address, 1 + index) for index in range(BACKENDS_EACH))
        services[Frontend(address, SERVICE_PORT, socket.IPPROTO_TCP)] = BackendGroup(backends)
    return services


def _change(
    installation: Installation, contents: Contents, desired: dict[Frontend, BackendGroup]
) -> tuple[float, Contents]:
    """Write the desired content to the maps; return the milliseconds and the new content."""
    began = time.perf_counter()
    steps, after = plan(contents, desired)
    installation.write(steps)
    return (time.perf_counter() - began) * 1e3, after

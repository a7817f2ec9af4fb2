"""The cost of the eBPF programs for ClusterIPs, per connection and per change of a Service.

The programs apply to sockets that this process creates while it is in the harness's cgroup.
Connections use loopback, where the programs have the largest share of the cost.
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

THIS_PROCESS = "0"
"""A process that writes this to ``CGROUP_PROCS`` of a cgroup moves itself into the cgroup."""

CGROUP_PROCS = "cgroup.procs"
RESET = struct.pack("ii", 1, 0)
"""The SO_LINGER with which close() resets the connection, so that no port stays in TIME_WAIT."""


def measure(lab: Lab) -> list[Figure]:
    """Measure clusterip_connect_ratio and clusterip_change_ms."""
    harness = ClusterIPHarness(lab.new_directory("bare"))
    try:
        server = harness.server(BACKEND_ADDRESSES[4][0])
        installation = harness.install()
        other_services = _other_services()
        all_services = other_services | {frontend(4): BackendGroup(backends_of(4, 0))}
        steps, contents = plan(Contents(), all_services)
        installation.write(steps)
        direct_rates, cluster_ip_rates = [], []
        for _ in lab.rounds():
            (harness.cgroup.parent / CGROUP_PROCS).write_text(THIS_PROCESS)
            direct_rates.append(_rate(harness, server, BACKEND_ADDRESSES[4][0], BACKEND_PORT))
            (harness.cgroup / CGROUP_PROCS).write_text(THIS_PROCESS)
            cluster_ip_rates.append(_rate(harness, server, SERVICE_ADDRESS[4], SERVICE_PORT))
        change_times_ms = []
        for number in lab.rounds():
            changed = list(other_services)[number]
            with_one_backend_less = all_services | {
                changed: BackendGroup(all_services[changed].backends[1:])
            }
            for desired in (with_one_backend_less, all_services):
                duration_ms, contents = _change(installation, contents, desired)
                change_times_ms.append(duration_ms)
    finally:
        harness.close()
    ratios = [
        rate / direct_rate for rate, direct_rate in zip(cluster_ip_rates, direct_rates, strict=True)
    ]
    note = f"{median(cluster_ip_rates):,.0f} connections per CPU second"
    return [
        ratio_figure("clusterip_connect_ratio", ratios, "connections to the backend itself", note),
        median_figure(
            "clusterip_change_ms",
            change_times_ms,
            "ms",
            note=f"one of {SERVICES:,} Services with {BACKENDS_EACH} backends each",
        ),
    ]


def _rate(harness: ClusterIPHarness, server: socket.socket, address: str, port: int) -> float:
    """Make sequential connections; return their number per CPU second."""
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
    """The Services besides the measured one; their addresses begin at 11.0.0.0, IPv4-mapped."""
    services = {}
    for number in range(SERVICES):
        address = (0xFFFF_0B00_0000 + number).to_bytes(16, "big")
        backends = tuple(TransportAddress(address, 1 + index) for index in range(BACKENDS_EACH))
        services[Frontend(address, SERVICE_PORT, socket.IPPROTO_TCP)] = BackendGroup(backends)
    return services


def _change(
    installation: Installation, contents: Contents, desired: dict[Frontend, BackendGroup]
) -> tuple[float, Contents]:
    """Write the desired content; return the milliseconds and the new content."""
    began = time.perf_counter()
    steps, after = plan(contents, desired)
    installation.write(steps)
    return (time.perf_counter() - began) * 1e3, after

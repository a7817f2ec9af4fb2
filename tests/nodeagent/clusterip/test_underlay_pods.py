"""Underlay Pods reach Services with packets from the Pod's address to the backend's address.

The section "Traffic" of docs/reference/networks.md lists the cases. No kube-proxy runs here.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from nodeagent.clusterip.bpf_installation import Installation
from nodeagent.clusterip.frontends import BackendGroup, Frontend, TransportAddress, address_bytes
from nodeagent.netlink.namespaces import NetworkNamespace
from tests.nodeagent.clusterip.clusterip_harness import ClusterIPHarness
from tests.support.network_harness import SERVICE_CIDRS, NetworkPod
from tests.support.network_harness import NetworkHarness as Datacentre

pytestmark = pytest.mark.netns

FAMILIES = pytest.mark.parametrize("family", [0, 1], ids=["IPv4", "IPv6"])
"""The index of a family in pairs of addresses."""

CLUSTER_IPS: Final = ("10.96.0.10", "fd00:96::10")
ANY_PROTOCOL: Final = 3
"""ETH_P_ALL, which ``bind`` takes in host order."""

TCP: Final = 6


@pytest.fixture
def datacentre(tmp_path: Path) -> Iterator[Datacentre]:
    """Nodes with uplinks to the bridge ``br0`` in the namespace ``fabric``."""
    network = Datacentre(tmp_path)
    yield network
    network.close()


@pytest.fixture
def pods(datacentre: Datacentre) -> tuple[NetworkPod, NetworkPod]:
    pods = []
    for number in (1, 2):
        pod = datacentre.pod(datacentre.node(f"n{number}"))
        pod.macvlan("eth0", *addresses(number, with_length=True))
        pod.add(serviceCIDR=list(SERVICE_CIDRS))
        pods.append(pod)
    return pods[0], pods[1]


def addresses(number: int, *, with_length: bool = False) -> tuple[str, str]:
    lengths = ("/24", "/64") if with_length else ("", "")
    return f"10.6.0.{100 + number}{lengths[0]}", f"fd00:6::{100 + number}{lengths[1]}"


def serve(harness: ClusterIPHarness, installation: Installation, family: int, backend: str) -> None:
    frontend = Frontend(address_bytes(CLUSTER_IPS[family]), 80, TCP)
    harness.serve(
        installation, {frontend: BackendGroup((TransportAddress(address_bytes(backend), 8080),))}
    )


@FAMILIES
def test_packets_go_from_the_pod_address_to_the_backend_address(
    harness: ClusterIPHarness,
    installation: Installation,
    datacentre: Datacentre,
    pods: tuple[NetworkPod, NetworkPod],
    family: int,
) -> None:
    client, backend = pods
    pod_address, target = addresses(1)[family], addresses(2)[family]
    serve(harness, installation, family, target)
    server = datacentre.listen(backend.inside, target, 8080)
    with NetworkNamespace.open(str(datacentre.fabric.path)) as fabric:
        packet_socket = datacentre.executor.socket(fabric, socket.AF_PACKET, socket.SOCK_RAW, 0)
    with packet_socket:
        packet_socket.bind(("br0", ANY_PROTOCOL))
        packet_socket.setblocking(False)
        client_address = datacentre.client_address_seen(
            client.inside, server, CLUSTER_IPS[family], 80
        )
        frames = received_frames(packet_socket)
    assert client_address == pod_address
    assert any(bytes_in_frame(target) in frame for frame in frames)
    assert not any(bytes_in_frame(CLUSTER_IPS[family]) in frame for frame in frames)


@FAMILIES
def test_a_backend_pod_reaches_itself_by_its_service(
    harness: ClusterIPHarness,
    installation: Installation,
    datacentre: Datacentre,
    pods: tuple[NetworkPod, NetworkPod],
    family: int,
) -> None:
    pod_address = addresses(1)[family]
    serve(harness, installation, family, pod_address)
    server = datacentre.listen(pods[0].inside, pod_address, 8080)
    assert (
        datacentre.client_address_seen(pods[0].inside, server, CLUSTER_IPS[family], 80)
        == pod_address
    )


@FAMILIES
def test_a_pod_reaches_a_backend_at_the_address_of_its_node(
    harness: ClusterIPHarness,
    installation: Installation,
    datacentre: Datacentre,
    pods: tuple[NetworkPod, NetworkPod],
    family: int,
) -> None:
    node = pods[0].node
    serve(harness, installation, family, node.addresses[family])
    server = datacentre.listen(node.inside, node.addresses[family], 8080)
    client_address = datacentre.client_address_seen(pods[0].inside, server, CLUSTER_IPS[family], 80)
    assert client_address == addresses(1)[family]


def received_frames(packet_socket: socket.socket) -> list[bytes]:
    frames = []
    while True:
        try:
            frames.append(packet_socket.recv(2_048))
        except BlockingIOError:
            return frames


def bytes_in_frame(address: str) -> bytes:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return socket.inet_pton(family, address)

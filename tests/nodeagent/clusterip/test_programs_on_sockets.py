"""BPF programs translate ClusterIPs for real sockets of a control group."""

from __future__ import annotations

import socket
import sys
from typing import Final

import pytest

from nodeagent.clusterip.bpf_installation import Installation
from nodeagent.clusterip.bpf_programs import DesiredPrograms
from nodeagent.clusterip.clusterip_setup import COOKIE_BYTES
from nodeagent.clusterip.frontends import BackendGroup, Frontend
from nodeagent.ebpf.numbers import SO_NETNS_COOKIE
from tests.nodeagent.clusterip.clusterip_harness import (
    BACKEND_ADDRESSES,
    BACKEND_PORT,
    SERVICE_ADDRESS,
    SERVICE_PORT,
    ClusterIPHarness,
    backends_of,
    frontend,
)

pytestmark = pytest.mark.netns

FAMILIES = pytest.mark.parametrize("family", [4, 6], ids=["IPv4", "IPv6"])
PROTOCOLS = pytest.mark.parametrize("protocol", ["TCP", "UDP"])
CONNECTIONS: Final = 64
"""The probability that one of three backends is never chosen is below 3 * (2/3)**64."""


def frontends_with_three_backends(family: int, **affinity: int) -> dict[Frontend, BackendGroup]:
    backend_group = BackendGroup(backends_of(family, 0, 1, 2), **affinity)
    return {frontend(family): backend_group, frontend(family, "UDP"): backend_group}


@FAMILIES
@PROTOCOLS
def test_a_connected_socket_has_the_service_as_peer_and_reaches_a_backend(
    harness: ClusterIPHarness, installation: Installation, family: int, protocol: str
) -> None:
    server = harness.server(BACKEND_ADDRESSES[family][1], protocol)
    harness.serve(installation, {frontend(family, protocol): BackendGroup(backends_of(family, 1))})
    client = harness.socket(family, protocol)
    client.connect((SERVICE_ADDRESS[family], SERVICE_PORT))
    assert client.getpeername()[:2] == (SERVICE_ADDRESS[family], SERVICE_PORT)
    client.send(b"hello")
    assert receive_and_answer(server, protocol) == b"hello"
    if protocol == "UDP":
        data, source = client.recvfrom(16)
        assert (data, source[:2]) == (b"HELLO", (SERVICE_ADDRESS[family], SERVICE_PORT))


@FAMILIES
def test_an_unconnected_socket_gets_answers_from_the_address_of_the_service(
    harness: ClusterIPHarness, installation: Installation, family: int
) -> None:
    server = harness.server(BACKEND_ADDRESSES[family][0], "UDP")
    harness.serve(installation, {frontend(family, "UDP"): BackendGroup(backends_of(family, 0))})
    client = harness.socket(family, "UDP")
    client.sendto(b"hello", (SERVICE_ADDRESS[family], SERVICE_PORT))
    assert receive_and_answer(server, "UDP") == b"hello"
    data, source = client.recvfrom(16)
    assert (data, source[:2]) == (b"HELLO", (SERVICE_ADDRESS[family], SERVICE_PORT))


@PROTOCOLS
def test_an_ipv6_socket_reaches_an_ipv4_service_by_its_mapped_address(
    harness: ClusterIPHarness, installation: Installation, protocol: str
) -> None:
    server = harness.server(BACKEND_ADDRESSES[4][0], protocol)
    harness.serve(installation, {frontend(4, protocol): BackendGroup(backends_of(4, 0))})
    client = harness.socket(6, protocol)
    mapped_address = f"::ffff:{SERVICE_ADDRESS[4]}"
    if protocol == "TCP":
        client.connect((mapped_address, SERVICE_PORT))
        assert client.getpeername()[:2] == (mapped_address, SERVICE_PORT)
        client.send(b"hello")
    else:
        client.sendto(b"hello", (mapped_address, SERVICE_PORT))
    assert receive_and_answer(server, protocol) == b"hello"
    if protocol == "UDP":
        assert client.recvfrom(16)[1][:2] == (mapped_address, SERVICE_PORT)


@FAMILIES
def test_connections_are_distributed_over_all_backends(
    harness: ClusterIPHarness, installation: Installation, family: int
) -> None:
    servers = [harness.server(address) for address in BACKEND_ADDRESSES[family]]
    harness.serve(installation, frontends_with_three_backends(family))
    assert len({chosen_backend(servers, harness, family) for _ in range(CONNECTIONS)}) == len(
        servers
    )


@FAMILIES
def test_a_client_with_affinity_keeps_its_backend(
    harness: ClusterIPHarness, installation: Installation, family: int
) -> None:
    servers = [harness.server(address) for address in BACKEND_ADDRESSES[family]]
    harness.serve(installation, frontends_with_three_backends(family, affinity_s=600))
    (first,) = {chosen_backend(servers, harness, family) for _ in range(CONNECTIONS)}
    others = backends_of(family, *(number for number in range(3) if number != first))
    harness.serve(installation, {frontend(family): BackendGroup(others, affinity_s=600)})
    (second,) = {chosen_backend(servers, harness, family) for _ in range(CONNECTIONS)}
    assert second != first
    harness.serve(installation, frontends_with_three_backends(family, affinity_s=600))
    assert {chosen_backend(servers, harness, family) for _ in range(CONNECTIONS)} == {second}


def test_affinity_ends_after_the_affinity_time_of_the_service(
    harness: ClusterIPHarness, installation: Installation
) -> None:
    servers = [harness.server(address) for address in BACKEND_ADDRESSES[4]]
    harness.serve(installation, frontends_with_three_backends(4, affinity_s=1))
    chosen_backend(servers, harness, 4)
    affinity = installation._maps["affinity"]
    ((client, chosen),) = list(affinity.items())
    backends = set()
    for _ in range(CONNECTIONS):
        # The last eight bytes are the time of the last connection; 0 is the boot time.
        affinity.put(client, chosen[:24] + bytes(8))
        backends.add(chosen_backend(servers, harness, 4))
    assert len(backends) == len(servers)


@FAMILIES
@PROTOCOLS
def test_a_service_without_backends_refuses_connections(
    harness: ClusterIPHarness, installation: Installation, family: int, protocol: str
) -> None:
    harness.serve(installation, {frontend(family, protocol): BackendGroup()})
    with pytest.raises(ConnectionRefusedError):
        harness.socket(family, protocol).connect((SERVICE_ADDRESS[family], SERVICE_PORT))
    if protocol == "UDP":
        with pytest.raises(ConnectionRefusedError):
            harness.socket(family, protocol).sendto(
                b"hello", (SERVICE_ADDRESS[family], SERVICE_PORT)
            )


def test_a_service_without_backends_refuses_with_eperm_on_an_old_kernel(
    harness: ClusterIPHarness,
) -> None:
    installation = harness.install(DesiredPrograms(skipped_netns=0, econnrefused=False))
    harness.serve(installation, {frontend(4): BackendGroup()})
    with pytest.raises(PermissionError):
        harness.socket(4).connect((SERVICE_ADDRESS[4], SERVICE_PORT))


@FAMILIES
def test_destinations_that_are_not_services_are_not_changed(
    harness: ClusterIPHarness, installation: Installation, family: int
) -> None:
    harness.serve(installation, frontends_with_three_backends(family))
    server = harness.server(BACKEND_ADDRESSES[family][2], "UDP")
    client = harness.socket(family, "UDP")
    client.sendto(b"hello", (BACKEND_ADDRESSES[family][2], BACKEND_PORT))
    assert receive_and_answer(server, "UDP") == b"hello"
    assert client.recvfrom(16)[1][:2] == (BACKEND_ADDRESSES[family][2], BACKEND_PORT)
    # Another port of the same address is not a Service and has no route.
    with pytest.raises(OSError, match="unreachable"):
        harness.socket(family, "UDP").connect((SERVICE_ADDRESS[family], SERVICE_PORT + 1))


def test_tcp_and_udp_on_the_same_port_are_two_frontends(
    harness: ClusterIPHarness, installation: Installation
) -> None:
    server = harness.server(BACKEND_ADDRESSES[4][0])
    harness.serve(
        installation,
        {frontend(4): BackendGroup(backends_of(4, 0)), frontend(4, "UDP"): BackendGroup()},
    )
    client = harness.socket(4)
    client.connect((SERVICE_ADDRESS[4], SERVICE_PORT))
    client.send(b"hello")
    assert receive_and_answer(server, "TCP") == b"hello"
    with pytest.raises(ConnectionRefusedError):
        harness.socket(4, "UDP").connect((SERVICE_ADDRESS[4], SERVICE_PORT))


@FAMILIES
def test_open_connections_continue_after_a_change_of_backends(
    harness: ClusterIPHarness, installation: Installation, family: int
) -> None:
    first, second = (
        harness.server(BACKEND_ADDRESSES[family][0]),
        harness.server(BACKEND_ADDRESSES[family][1]),
    )
    harness.serve(installation, {frontend(family): BackendGroup(backends_of(family, 0))})
    old_client = harness.socket(family)
    old_client.connect((SERVICE_ADDRESS[family], SERVICE_PORT))
    accepted, _ = first.accept()
    harness.serve(installation, {frontend(family): BackendGroup(backends_of(family, 1))})
    new_client = harness.socket(family)
    new_client.connect((SERVICE_ADDRESS[family], SERVICE_PORT))
    new_client.send(b"new")
    assert receive_and_answer(second, "TCP") == b"new"
    with accepted:
        old_client.send(b"old")
        assert accepted.recv(16) == b"old"
    assert old_client.getpeername()[:2] == (SERVICE_ADDRESS[family], SERVICE_PORT)


@FAMILIES
def test_an_open_udp_socket_sends_its_next_packet_to_the_new_backend(
    harness: ClusterIPHarness, installation: Installation, family: int
) -> None:
    client = harness.socket(family, "UDP")
    for number in (0, 1):
        server = harness.server(BACKEND_ADDRESSES[family][number], "UDP")
        harness.serve(
            installation, {frontend(family, "UDP"): BackendGroup(backends_of(family, number))}
        )
        client.sendto(b"hello", (SERVICE_ADDRESS[family], SERVICE_PORT))
        assert receive_and_answer(server, "UDP") == b"hello"
        assert client.recvfrom(16)[1][:2] == (SERVICE_ADDRESS[family], SERVICE_PORT)
    harness.serve(installation, {frontend(family, "UDP"): BackendGroup()})
    with pytest.raises(ConnectionRefusedError):
        client.sendto(b"hello", (SERVICE_ADDRESS[family], SERVICE_PORT))


def test_connections_to_a_removed_service_are_not_changed(
    harness: ClusterIPHarness, installation: Installation
) -> None:
    harness.serve(installation, frontends_with_three_backends(4))
    harness.serve(installation, {})
    with pytest.raises(OSError, match="unreachable"):
        harness.socket(4).connect((SERVICE_ADDRESS[4], SERVICE_PORT))


def test_sockets_of_a_skipped_namespace_are_not_changed(harness: ClusterIPHarness) -> None:
    packed_cookie = harness.socket(4).getsockopt(socket.SOL_SOCKET, SO_NETNS_COOKIE, COOKIE_BYTES)
    cookie = int.from_bytes(packed_cookie, sys.byteorder)
    installation = harness.install(DesiredPrograms(skipped_netns=cookie))
    harness.serve(installation, frontends_with_three_backends(4))
    with pytest.raises(OSError, match="unreachable"):
        harness.socket(4).connect((SERVICE_ADDRESS[4], SERVICE_PORT))


def receive_and_answer(server: socket.socket, protocol: str) -> bytes:
    """Receive data and return it; over UDP, also send it back in capitals."""
    if protocol == "UDP":
        data, source = server.recvfrom(16)
        server.sendto(data.upper(), source)
        return data
    accepted, _ = server.accept()
    with accepted:
        return accepted.recv(16)


def chosen_backend(servers: list[socket.socket], harness: ClusterIPHarness, family: int) -> int:
    """Connect once; return the index of the server that accepts."""
    with harness.socket(family) as client:
        client.connect((SERVICE_ADDRESS[family], SERVICE_PORT))
        return next(number for number, server in enumerate(servers) if has_connection(server))


def has_connection(server: socket.socket) -> bool:
    server.settimeout(0)
    try:
        server.accept()[0].close()
    except BlockingIOError:
        return False
    return True

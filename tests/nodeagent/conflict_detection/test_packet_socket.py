"""Probes whose frames the kernel refuses. A pair of local sockets takes the place of the NIC."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from errno import ENOBUFS
from socket import AF_INET, inet_pton

import pytest

from nodeagent.conflict_detection.arp import ARP_REPLY, NO_IP, ArpPacket, decode_arp, encode_arp
from nodeagent.conflict_detection.packet_socket import PacketSocket, run_probe
from nodeagent.conflict_detection.probe_codecs import ARP_CODEC, ProbeRequest
from nodeagent.conflict_detection.probe_schedule import spread
from nodeagent.conflict_detection.probe_session import AddressFree, ConflictFound, GatewaySilent

OUR_MAC = bytes.fromhex("020000000001")
THEIR_MAC = bytes.fromhex("020000000099")
ROUTER_MAC = bytes.fromhex("0200000000fe")
ADDRESS = inet_pton(AF_INET, "10.6.0.17")
GATEWAY = inet_pton(AF_INET, "10.6.0.1")
SCHEDULE = spread(probes=2, window_s=0.02)
REQUEST = ProbeRequest(
    ADDRESS, OUR_MAC, gateway=GATEWAY, conflict_schedule=SCHEDULE, gateway_schedule=SCHEDULE
)


class Nic:
    """A NIC that refuses some probes. Its gateway answers each gateway probe, unless silent."""

    def __init__(self) -> None:
        self.refuses_conflict_probes = False
        self.refuses_gateway_probes = False
        self.has_gateway = True
        self.near, self.far = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.near.setblocking(False)

    def send(self, frame: bytes) -> None:
        packet = decode_arp(frame)
        assert packet is not None
        is_gateway_probe = packet.sender_ip != NO_IP
        if self.refuses_gateway_probes if is_gateway_probe else self.refuses_conflict_probes:
            raise OSError(ENOBUFS, os.strerror(ENOBUFS))
        if is_gateway_probe and self.has_gateway:
            self.receive(ROUTER_MAC, GATEWAY)

    def receive(self, mac: bytes, address: bytes) -> None:
        """Receive an ARP reply."""
        self.far.send(encode_arp(ArpPacket(ARP_REPLY, mac, address, OUR_MAC, ADDRESS), OUR_MAC))

    def packet_socket(self) -> PacketSocket:
        socket_of_nic = _SocketOfNic(self.near, "eth0", OUR_MAC, ARP_CODEC)
        socket_of_nic.nic = self
        return socket_of_nic


class _SocketOfNic(PacketSocket):
    nic: Nic

    def send(self, frame: bytes) -> None:
        self.nic.send(frame)


@pytest.fixture
def nic() -> Iterator[Nic]:
    nic = Nic()
    with nic.near, nic.far:
        yield nic


async def test_a_probe_fails_if_every_conflict_probe_is_refused(nic: Nic) -> None:
    assert await run_probe(nic.packet_socket(), REQUEST) == AddressFree(ROUTER_MAC)
    nic.refuses_conflict_probes = True
    with pytest.raises(OSError, match="No buffer space"):
        await run_probe(nic.packet_socket(), REQUEST)


async def test_a_probe_fails_if_every_gateway_probe_is_refused(nic: Nic) -> None:
    nic.has_gateway = False
    assert await run_probe(nic.packet_socket(), REQUEST) == GatewaySilent()
    nic.refuses_gateway_probes = True
    with pytest.raises(OSError, match="No buffer space"):
        await run_probe(nic.packet_socket(), REQUEST)


async def test_a_conflict_is_reported_even_if_every_probe_is_refused(nic: Nic) -> None:
    nic.refuses_conflict_probes = nic.refuses_gateway_probes = True
    nic.receive(THEIR_MAC, ADDRESS)
    assert await run_probe(nic.packet_socket(), REQUEST) == ConflictFound(THEIR_MAC)

"""Encodes and decodes ARP packets (RFC 826, used as in RFC 5227). Pure.

Invalid bytes decode to None, because any host on the link can send them.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from nodeagent.conflict_detection.ethernet import (
    BROADCAST_MAC,
    ETHERTYPE_ARP,
    NO_MAC,
    Ethernet,
    decode_frame,
    encode_frame,
)

ARP_REQUEST: Final = 1
ARP_REPLY: Final = 2
NO_IP: Final = bytes(4)

_PACKET: Final = struct.Struct("!HHBBH6s4s6s4s")
_HARDWARE_ETHERNET: Final = 1
_PROTOCOL_IPV4: Final = 0x0800
_SIZES: Final = (6, 4)
_IPV4_ON_ETHERNET: Final = (_HARDWARE_ETHERNET, _PROTOCOL_IPV4, *_SIZES)


class ArpPacket(NamedTuple):
    """An ARP packet for IPv4 on Ethernet. MAC addresses have 6 bytes, IP addresses 4."""

    operation: int
    sender_mac: bytes
    sender_ip: bytes
    target_mac: bytes
    target_ip: bytes


def arp_probe(mac: bytes, address: bytes) -> ArpPacket:
    """A probe for hosts that use ``address`` (RFC 5227, 2.1.1).

    The sender's IP address is zero, so that ARP caches do not change.
    """
    return ArpPacket(ARP_REQUEST, mac, NO_IP, NO_MAC, address)


def arp_request(mac: bytes, address: bytes, target: bytes) -> ArpPacket:
    """A request from ``address`` for the MAC address of ``target`` (RFC 826)."""
    return ArpPacket(ARP_REQUEST, mac, address, NO_MAC, target)


def arp_announcement(mac: bytes, address: bytes) -> ArpPacket:
    """An announcement of ``address`` (RFC 5227, 2.3).

    The target's MAC address is all ones, as in Spiderpool; receivers ignore it.
    """
    return ArpPacket(ARP_REQUEST, mac, address, BROADCAST_MAC, address)


def encode_arp(packet: ArpPacket, destination: bytes = BROADCAST_MAC) -> bytes:
    """Encode a packet as a frame."""
    operation, sender_mac, sender_ip, target_mac, target_ip = packet
    body = _PACKET.pack(*_IPV4_ON_ETHERNET, operation, sender_mac, sender_ip, target_mac, target_ip)
    return encode_frame(Ethernet(destination, sender_mac, ETHERTYPE_ARP, body))


def decode_arp(data: bytes) -> ArpPacket | None:
    """Decode a frame. None if it is not an ARP request or reply for IPv4 on Ethernet."""
    frame = decode_frame(data)
    if frame is None or frame.ethertype != ETHERTYPE_ARP or len(frame.payload) < _PACKET.size:
        return None
    *types, operation, sender_mac, sender_ip, target_mac, target_ip = _PACKET.unpack_from(
        frame.payload
    )
    if tuple(types) != _IPV4_ON_ETHERNET or operation not in (ARP_REQUEST, ARP_REPLY):
        return None
    return ArpPacket(operation, sender_mac, sender_ip, target_mac, target_ip)

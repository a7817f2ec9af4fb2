"""The Ethernet header (IEEE 802.3; RFC 894, RFC 2464). Pure.

The kernel removes a VLAN tag before a packet socket receives the frame.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

MAC_BYTES: Final = 6
HEADER_BYTES: Final = 14
BROADCAST_MAC: Final = b"\xff" * MAC_BYTES
NO_MAC: Final = bytes(MAC_BYTES)

ETHERTYPE_ARP: Final = 0x0806
ETHERTYPE_IPV6: Final = 0x86DD

_HEADER: Final = struct.Struct("!6s6sH")


class Ethernet(NamedTuple):
    """One frame. MAC addresses have 6 bytes."""

    destination: bytes
    source: bytes
    ethertype: int
    payload: bytes


def encode_frame(frame: Ethernet) -> bytes:
    """Encode a frame. The driver pads short frames."""
    return _HEADER.pack(*frame[:3]) + frame.payload


def decode_frame(data: bytes) -> Ethernet | None:
    """Decode a frame. None if it is shorter than a header."""
    if len(data) < HEADER_BYTES:
        return None
    destination, source, ethertype = _HEADER.unpack_from(data)
    return Ethernet(destination, source, ethertype, data[HEADER_BYTES:])


def is_station(mac: bytes) -> bool:
    """Whether a MAC address is individual and not zero (IEEE 802, I/G bit)."""
    return len(mac) == MAC_BYTES and mac != NO_MAC and not mac[0] & 1

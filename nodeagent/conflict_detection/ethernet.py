"""The Ethernet header (IEEE 802.3; RFC 894, RFC 2464).

Pure: bytes and values. It knows nothing of what a frame carries. A VLAN tag never shows here: the
kernel takes it off before a packet socket sees the frame.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

MAC_BYTES: Final = 6
HEADER_BYTES: Final = 14
BROADCAST: Final = b"\xff" * MAC_BYTES
NO_MAC: Final = bytes(MAC_BYTES)

ETHERTYPE_ARP: Final = 0x0806
ETHERTYPE_IPV6: Final = 0x86DD

_HEADER: Final = struct.Struct("!6s6sH")


class Ethernet(NamedTuple):
    """One frame: hardware addresses of 6 bytes, and what it carries."""

    destination: bytes
    source: bytes
    ethertype: int
    payload: bytes


def encode_frame(frame: Ethernet) -> bytes:
    """The bytes; the driver pads what is too short."""
    return _HEADER.pack(*frame[:3]) + frame.payload


def decode_frame(data: bytes) -> Ethernet | None:
    """The frame; None when not even a header is there."""
    if len(data) < HEADER_BYTES:
        return None
    destination, source, ethertype = _HEADER.unpack_from(data)
    return Ethernet(destination, source, ethertype, data[HEADER_BYTES:])


def is_station(mac: bytes) -> bool:
    """Whether one machine can have this address: neither zero nor a group (IEEE 802, I/G bit)."""
    return len(mac) == MAC_BYTES and mac != NO_MAC and not mac[0] & 1

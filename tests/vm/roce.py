"""``python -m tests.vm.roce FROM TO`` sends RoCE datagrams to the RDMA device at address TO.

The datagrams go to queue 1, the management queue of every device. A datagram is UDP with headers
and the invariant checksum of InfiniBand (InfiniBand specification 7.8.1, annex A17).
"""

from __future__ import annotations

import socket
import struct
import sys
import zlib
from typing import Final

ROCE_V2_PORT: Final = 4791

DATAGRAMS: Final = 8
SEND_ONLY: Final = 0x64
"""The opcode of an unreliable datagram."""

DEFAULT_PARTITION_KEY: Final = 0xFFFF

QUEUE: Final = 1
QUEUE_KEY: Final = 0x80010000
"""The well-known key of queue 1."""

TTL: Final = 64
PAYLOAD: Final = bytes(256)  # management datagrams have this size


def datagram(source: str, destination: str, number: int) -> bytes:
    """The IPv4 packet with the packet sequence number ``number``."""
    base = struct.pack(">BBHII", SEND_ONLY, 0, DEFAULT_PARTITION_KEY, QUEUE, number)
    extended = struct.pack(">II", QUEUE_KEY, QUEUE)
    udp_bytes = 8 + len(base) + len(extended) + len(PAYLOAD) + 4
    udp = struct.pack(">HHHH", ROCE_V2_PORT, ROCE_V2_PORT, udp_bytes, 0)
    addresses = socket.inet_aton(source) + socket.inet_aton(destination)
    lengths = struct.pack(">HHH", 20 + udp_bytes, number + 1, 0)
    ip = b"\x45\0" + lengths + struct.pack(">BBH", TTL, socket.IPPROTO_UDP, 0) + addresses
    # The checksum is computed with all bits set in the fields that routers may change.
    checksummed = (
        b"\xff" * 8,
        b"\x45\xff",
        lengths,
        struct.pack(">BBH", 0xFF, socket.IPPROTO_UDP, 0xFFFF),
        addresses,
        udp[:6],
        b"\xff\xff",
        base[:4],
        b"\xff",
        base[5:],
        extended,
        PAYLOAD,
    )
    checksum = zlib.crc32(b"".join(checksummed))
    return ip + udp + base + extended + PAYLOAD + struct.pack("<I", checksum)


if __name__ == "__main__":
    _, source, destination = sys.argv
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as sender:
        for number in range(DATAGRAMS):
            sender.sendto(datagram(source, destination, number), (destination, 0))

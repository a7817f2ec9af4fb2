"""Reads a link's bus address, statistics and speed with the ethtool ioctl.

The link is in the network namespace of the socket. Every function raises OSError, for example if
the link's driver does not support the request.
"""

from __future__ import annotations

import ctypes
import fcntl
import socket
import struct
from errno import EFBIG
from typing import Final

STATISTICS_MAX: Final = 32_768

_SIOCETHTOOL: Final = 0x8946  # include/uapi/linux/sockios.h
_INTERFACE_BYTES: Final = 16

# include/uapi/linux/ethtool.h
_GDRVINFO: Final = 0x3
_GSTRINGS: Final = 0x1B
_GSTATS: Final = 0x1D
_GSSET_INFO: Final = 0x37
_GLINKSETTINGS: Final = 0x4C
_STATISTICS_SET: Final = 1
_NAME_BYTES: Final = 32
_IFREQ_DATA: Final = struct.Struct("=16sQ16x")
"""Struct ifreq with a pointer."""

_DRVINFO: Final = struct.Struct("=I32s32s32s32s32s12x5I")
_SSET_INFO: Final = struct.Struct("=IIQI")
_STRINGS: Final = struct.Struct("=III")
_STATISTICS: Final = struct.Struct("=II")
_LINK_SETTINGS: Final = struct.Struct("=II7xb32x")
_LINK_MODES: Final = 3
_SPEED_UNKNOWN: Final = 0xFFFFFFFF


def bus_address(netns_socket: socket.socket, link: str) -> str:
    """The bus address of a link's device, such as a PCI address."""
    answer = _ask(
        netns_socket, link, _DRVINFO.pack(_GDRVINFO, b"", b"", b"", b"", b"", 0, 0, 0, 0, 0)
    )
    bus: bytes = _DRVINFO.unpack_from(answer)[4]
    return bus.rstrip(b"\0").decode("ascii", "replace")


def statistics(netns_socket: socket.socket, link: str) -> dict[str, int]:
    """Counter values by the driver's names."""
    request = _SSET_INFO.pack(_GSSET_INFO, 0, 1 << _STATISTICS_SET, 0)
    _, _, mask, count = _SSET_INFO.unpack_from(_ask(netns_socket, link, request))
    if not mask:
        return {}
    if count > STATISTICS_MAX:
        raise OSError(EFBIG, f"{link} has {count} statistics, more than {STATISTICS_MAX}")
    # The kernel writes all statistics, even beyond the end of the buffer. So the buffer has room
    # for statistics that are added after the count was read.
    capacity = 2 * count + 64
    request = _STRINGS.pack(_GSTRINGS, _STATISTICS_SET, count)
    names = _ask(netns_socket, link, request + bytes(capacity * _NAME_BYTES))
    values = _ask(netns_socket, link, _STATISTICS.pack(_GSTATS, count) + bytes(capacity * 8))
    # Use only the statistics that both answers have.
    count = min(_STRINGS.unpack_from(names)[2], _STATISTICS.unpack_from(values)[1], capacity)
    numbers = struct.unpack_from(f"={count}Q", values, _STATISTICS.size)
    starts = range(_STRINGS.size, _STRINGS.size + count * _NAME_BYTES, _NAME_BYTES)
    return {
        _text(names[start : start + _NAME_BYTES]): number
        for start, number in zip(starts, numbers, strict=True)
    }


def speed_mbps(netns_socket: socket.socket, link: str) -> int | None:
    """The link's speed in Mbit/s; None if it is unknown, for example without a cable."""
    # The first answer says how many words one set of link modes has, as a negative number.
    request = _LINK_SETTINGS.pack(_GLINKSETTINGS, 0, 0)
    words = -_LINK_SETTINGS.unpack_from(_ask(netns_socket, link, request))[2]
    request = _LINK_SETTINGS.pack(_GLINKSETTINGS, 0, words)
    answer = _ask(netns_socket, link, request + bytes(_LINK_MODES * words * 4))
    speed = _LINK_SETTINGS.unpack_from(answer)[1]
    return None if speed == _SPEED_UNKNOWN else int(speed)


def _ask(netns_socket: socket.socket, link: str, request: bytes) -> bytes:
    name = link.encode()
    if not name or len(name) >= _INTERFACE_BYTES:
        raise OSError(f"{link!r} is not an interface name")
    data = ctypes.create_string_buffer(request, len(request))
    ifreq = _IFREQ_DATA.pack(name, ctypes.addressof(data))
    fcntl.ioctl(netns_socket.fileno(), _SIOCETHTOOL, ifreq)
    return data.raw


def _text(name: bytes) -> str:
    return name.partition(b"\0")[0].decode("ascii", "replace").strip()

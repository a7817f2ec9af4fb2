"""Reads and sets the eswitch mode of a NIC, by the generic netlink family ``devlink``.

A NIC is addressed by its PCI address; its links may be in any network namespace. Functions raise
OSError. See include/uapi/linux/genetlink.h and include/uapi/linux/devlink.h.
"""

from __future__ import annotations

import os
import socket
from errno import EOPNOTSUPP
from struct import Struct
from typing import Final

from nodeagent.netlink import numbers as n
from nodeagent.netlink.codec import (
    I32,
    U16,
    attribute,
    attribute_text,
    attributes,
    message,
    messages,
)

NETLINK_GENERIC: Final = 16
ANSWER_S_MAX: Final = 120.0
"""Seconds that a driver may take to change the mode, because the change resets the NIC."""

LEGACY_MODE: Final = 0
SWITCHDEV_MODE: Final = 1

_HEADER: Final = Struct("=BBH")
_CONTROL: Final = 0x10
_GET_FAMILY: Final = 3
_FAMILY_ID: Final = 1
_FAMILY_NAME: Final = 2
_VERSION: Final = 1
_ESWITCH_GET: Final = 29
_ESWITCH_SET: Final = 30
_BUS_NAME: Final = 1
_DEVICE_NAME: Final = 2
_ESWITCH_MODE: Final = 25
_RECEIVE_BYTES: Final = 1 << 16


def devlink_family(netlink: socket.socket) -> int:
    """The number of the family ``devlink``. Raises OSError if the kernel has no devlink."""
    netlink.settimeout(ANSWER_S_MAX)
    name = attribute_text(_FAMILY_NAME, "devlink")
    family = attributes(_ask(netlink, _CONTROL, _GET_FAMILY, name)).get(_FAMILY_ID)
    if family is None:
        raise OSError(EOPNOTSUPP, "the kernel has no devlink")
    return int(U16.unpack_from(family)[0])


def eswitch_mode(netlink: socket.socket, family: int, address: str) -> int:
    """The eswitch mode of the NIC at a PCI address.

    The OSError has the errno EOPNOTSUPP or ENODEV if the NIC's driver has no modes.
    """
    mode = attributes(_ask(netlink, family, _ESWITCH_GET, _device(address))).get(_ESWITCH_MODE)
    return LEGACY_MODE if mode is None else int(U16.unpack_from(mode)[0])


def set_eswitch_mode(netlink: socket.socket, family: int, address: str, mode: int) -> None:
    """Set the eswitch mode of the NIC at a PCI address."""
    _ask(netlink, family, _ESWITCH_SET, _device(address) + attribute(_ESWITCH_MODE, U16.pack(mode)))


def _device(address: str) -> bytes:
    return attribute_text(_BUS_NAME, "pci") + attribute_text(_DEVICE_NAME, address)


def _ask(netlink: socket.socket, family: int, command: int, body: bytes) -> memoryview:
    """The attributes of the answer; empty if the kernel only acknowledges the request."""
    request = _HEADER.pack(command, _VERSION, 0) + body
    # The command is also the sequence number.
    netlink.send(message(family, n.NLM_F_REQUEST | n.NLM_F_ACK, command, request))
    answer = memoryview(b"")
    while True:
        for kind, _, sequence, reply in messages(memoryview(netlink.recv(_RECEIVE_BYTES))):
            if sequence != command:
                continue
            if kind != n.NLMSG_ERROR:
                answer = reply[_HEADER.size :]
                continue
            number = -I32.unpack_from(reply)[0]
            if number:
                raise OSError(number, os.strerror(number))
            return answer

"""Devlink requests for the eSwitch mode of a NIC, answered by a scripted kernel."""

from __future__ import annotations

import socket
import struct
import threading
from errno import EBUSY, ENODEV, EOPNOTSUPP, EPERM
from typing import cast

import pytest

from core.errors import DatapathError
from nodeagent.netlink.devlink import (
    LEGACY_MODE,
    SWITCHDEV_MODE,
    devlink_family,
    eswitch_mode,
    set_eswitch_mode,
)
from nodeagent.netlink.namespaces import NetnsExecutor
from nodeagent.sriov.vf_links import KernelVfLinks

FAMILY = 21
"""The number that the scripted kernel gives the family devlink."""

NIC = "0000:3b:00.0"
NAME = b"\x08\0\x01\0pci\0\x11\0\x02\x000000:3b:00.0\0\0\0\0"
"""The attributes DEVLINK_ATTR_BUS_NAME and DEVLINK_ATTR_DEV_NAME of ``NIC``."""

HEADER = struct.Struct("=IHHII")
"""Struct nlmsghdr: length, type, flags, sequence number, port."""


class ScriptedKernel:
    """Answers requests for the family devlink, and devlink commands, on a socket pair.

    ``errno``: acknowledges every command. ``answer``: the attributes sent before an
    acknowledgement.
    """

    def __init__(self, errno: int, answer: bytes = b"", *, has_devlink: bool = True) -> None:
        self.near, self._far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._errno = errno
        self._answer = answer
        self._has_devlink = has_devlink
        self.requests: list[bytes] = []
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def close(self) -> None:
        self.near.close()
        self._thread.join()
        self._far.close()

    def _serve(self) -> None:
        while data := self._far.recv(1 << 16):
            self.requests.append(data)
            _, kind, _, sequence, _ = HEADER.unpack_from(data)
            # A request for a family has the type 0x10 (GENL_ID_CTRL).
            if kind == 0x10 and self._has_devlink:
                # CTRL_CMD_NEWFAMILY, version 2; the attribute CTRL_ATTR_FAMILY_ID
                body = struct.pack("=BBHHHHxx", 1, 2, 0, 6, 1, FAMILY)
                self._far.send(HEADER.pack(16 + len(body), kind, 0, sequence, 0) + body)
            if kind == FAMILY and self._answer and not self._errno:
                body = b"\x1d\x01\0\0" + self._answer  # DEVLINK_CMD_ESWITCH_GET, version 1
                self._far.send(HEADER.pack(16 + len(body), kind, 0, sequence, 0) + body)
            errno = 0 if kind == 0x10 else self._errno
            body = struct.pack("=i", -errno) + data[:16]
            # An acknowledgement has the type 2 (NLMSG_ERROR).
            self._far.send(HEADER.pack(16 + len(body), 2, 0, sequence, 0) + body)


def test_the_eswitch_mode_is_set_by_pci_address() -> None:
    kernel = ScriptedKernel(0)

    set_eswitch_mode(kernel.near, devlink_family(kernel.near), NIC, SWITCHDEV_MODE)
    kernel.close()

    _, kind, flags, _, _ = HEADER.unpack_from(kernel.requests[1])
    assert (kind, flags) == (FAMILY, 0x1 | 0x4)
    assert kernel.requests[1][16:] == (
        b"\x1e\x01\0\0"  # DEVLINK_CMD_ESWITCH_SET, version 1
        b"\x08\0\x01\0pci\0"
        b"\x11\0\x02\x000000:3b:00.0\0\0\0\0"
        b"\x06\0\x19\0\x01\0\0\0"  # DEVLINK_ATTR_ESWITCH_MODE: switchdev
    )


@pytest.mark.parametrize(
    ("attributes", "mode"),
    [
        # What mlx5 answers: mode, inline mode, encapsulation mode.
        ("060019000100000005001a000100000005003e0001000000", SWITCHDEV_MODE),
        ("060019000000000005001a000000000005003e0001000000", LEGACY_MODE),
        ("", LEGACY_MODE),  # a driver that reports no mode
    ],
)
def test_the_eswitch_mode_is_read_from_the_answer(attributes: str, mode: int) -> None:
    kernel = ScriptedKernel(0, NAME + bytes.fromhex(attributes))

    read = eswitch_mode(kernel.near, FAMILY, NIC)
    kernel.close()

    assert read == mode
    assert kernel.requests[0][16:] == b"\x1d\x01\0\0" + NAME  # DEVLINK_CMD_ESWITCH_GET


def test_setting_the_eswitch_mode_raises_the_errno_of_the_driver() -> None:
    kernel = ScriptedKernel(EOPNOTSUPP)

    with pytest.raises(OSError, match="not supported") as refused:
        set_eswitch_mode(kernel.near, FAMILY, NIC, SWITCHDEV_MODE)
    kernel.close()

    assert refused.value.errno == EOPNOTSUPP


def test_the_error_of_a_kernel_without_devlink_names_devlink() -> None:
    kernel = ScriptedKernel(0, has_devlink=False)

    with pytest.raises(OSError, match="no devlink"):
        devlink_family(kernel.near)
    kernel.close()


class ScriptedExecutor:
    """An executor whose sockets are answered by a scripted kernel."""

    own_namespace = None

    def __init__(self, kernel: ScriptedKernel) -> None:
        self._kernel = kernel

    def socket(self, *_: object) -> socket.socket:
        return self._kernel.near


@pytest.mark.parametrize("errno", [EOPNOTSUPP, ENODEV, EPERM])
def test_a_nic_without_eswitch_modes_is_left_out(errno: int) -> None:
    kernel = ScriptedKernel(errno)

    modes = KernelVfLinks(cast("NetnsExecutor", ScriptedExecutor(kernel))).eswitch_modes([NIC])
    kernel.close()

    assert modes == {}


def test_a_mode_that_cannot_be_read_is_an_error() -> None:
    """If the agent assumed legacy, a switchdev policy would set the mode and remove all VFs."""
    kernel = ScriptedKernel(EBUSY)

    with pytest.raises(DatapathError, match=f"cannot read the eSwitchMode of {NIC}"):
        KernelVfLinks(cast("NetnsExecutor", ScriptedExecutor(kernel))).eswitch_modes([NIC])
    kernel.close()

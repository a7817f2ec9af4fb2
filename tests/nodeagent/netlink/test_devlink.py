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
"""The number of the devlink family in the scripted kernel."""

NIC = "0000:3b:00.0"
NAME = b"\x08\0\x01\0pci\0\x11\0\x02\x000000:3b:00.0\0\0\0\0"
"""The attributes DEVLINK_ATTR_BUS_NAME and DEVLINK_ATTR_DEV_NAME of ``NIC``."""

HEADER = struct.Struct("=IHHII")
"""Struct nlmsghdr: length, type, flags, sequence number, port."""


class ScriptedKernel:
    """Answers devlink commands, and requests for the number of the devlink family.

    A command gets ``answer`` if ``errno`` is 0, and then an acknowledgement with ``errno``.
    """

    def __init__(self, errno: int, answer: bytes = b"", *, has_devlink: bool = True) -> None:
        self.agent_socket, self._kernel_socket = socket.socketpair(
            socket.AF_UNIX, socket.SOCK_SEQPACKET
        )
        self._errno = errno
        self._answer = answer
        self._has_devlink = has_devlink
        self.requests: list[bytes] = []
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self.agent_socket.close()
        self._thread.join()
        self._kernel_socket.close()

    def _serve(self) -> None:
        while data := self._kernel_socket.recv(1 << 16):
            self.requests.append(data)
            _, kind, _, sequence, _ = HEADER.unpack_from(data)
            if kind == 0x10 and self._has_devlink:  # GENL_ID_CTRL
                # CTRL_CMD_NEWFAMILY, version 2; the attribute CTRL_ATTR_FAMILY_ID
                body = struct.pack("=BBHHHHxx", 1, 2, 0, 6, 1, FAMILY)
                self._kernel_socket.send(HEADER.pack(16 + len(body), kind, 0, sequence, 0) + body)
            if kind == FAMILY and self._answer and not self._errno:
                body = b"\x1d\x01\0\0" + self._answer  # DEVLINK_CMD_ESWITCH_GET, version 1
                self._kernel_socket.send(HEADER.pack(16 + len(body), kind, 0, sequence, 0) + body)
            errno = 0 if kind == 0x10 else self._errno
            body = struct.pack("=i", -errno) + data[:16]
            # An acknowledgement has the type 2 (NLMSG_ERROR).
            self._kernel_socket.send(HEADER.pack(16 + len(body), 2, 0, sequence, 0) + body)


def test_the_eswitch_mode_is_set_by_pci_address() -> None:
    kernel = ScriptedKernel(0)

    set_eswitch_mode(kernel.agent_socket, devlink_family(kernel.agent_socket), NIC, SWITCHDEV_MODE)
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

    read_mode = eswitch_mode(kernel.agent_socket, FAMILY, NIC)
    kernel.close()

    assert read_mode == mode
    assert kernel.requests[0][16:] == b"\x1d\x01\0\0" + NAME  # DEVLINK_CMD_ESWITCH_GET


def test_setting_the_eswitch_mode_raises_the_errno_of_the_driver() -> None:
    kernel = ScriptedKernel(EOPNOTSUPP)

    with pytest.raises(OSError, match="not supported") as error:
        set_eswitch_mode(kernel.agent_socket, FAMILY, NIC, SWITCHDEV_MODE)
    kernel.close()

    assert error.value.errno == EOPNOTSUPP


def test_devlink_family_raises_oserror_if_the_kernel_has_no_devlink() -> None:
    kernel = ScriptedKernel(0, has_devlink=False)

    with pytest.raises(OSError, match="no devlink"):
        devlink_family(kernel.agent_socket)
    kernel.close()


class ScriptedExecutor:
    own_namespace = None

    def __init__(self, kernel: ScriptedKernel) -> None:
        self._kernel = kernel

    def socket(self, *_: object) -> socket.socket:
        return self._kernel.agent_socket


@pytest.mark.parametrize("errno", [EOPNOTSUPP, ENODEV, EPERM])
def test_eswitch_modes_leaves_out_a_nic_that_has_no_mode(errno: int) -> None:
    kernel = ScriptedKernel(errno)

    modes = KernelVfLinks(cast("NetnsExecutor", ScriptedExecutor(kernel))).eswitch_modes([NIC])
    kernel.close()

    assert modes == {}


def test_eswitch_modes_raises_if_a_mode_cannot_be_read() -> None:
    """If the agent assumed legacy, a switchdev policy would remove all VFs."""
    kernel = ScriptedKernel(EBUSY)

    with pytest.raises(DatapathError, match=f"cannot read the eSwitchMode of {NIC}"):
        KernelVfLinks(cast("NetnsExecutor", ScriptedExecutor(kernel))).eswitch_modes([NIC])
    kernel.close()

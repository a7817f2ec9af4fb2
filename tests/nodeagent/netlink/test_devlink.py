"""The requests for the mode of a switch, as a kernel with devlink reads them."""

from __future__ import annotations

import socket
import struct
import threading
from errno import EOPNOTSUPP

import pytest

from nodeagent.netlink.devlink import SWITCHDEV_MODE, set_eswitch_mode

FAMILY = 21
HEADER = struct.Struct("=IHHII")


class ScriptedKernel:
    """Answers the question for the family, then the command with an errno, on a pair of sockets."""

    def __init__(self, errno: int, *, has_devlink: bool = True) -> None:
        self.near, self._far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._errno = errno
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
            if kind == 0x10 and self._has_devlink:
                body = struct.pack("=BBHHHHxx", 1, 2, 0, 6, 1, FAMILY)
                self._far.send(HEADER.pack(16 + len(body), kind, 0, sequence, 0) + body)
            errno = 0 if kind == 0x10 else self._errno
            body = struct.pack("=i", -errno) + data[:16]
            self._far.send(HEADER.pack(16 + len(body), 2, 0, sequence, 0) + body)


def test_the_mode_is_set_at_the_nics_pci_address() -> None:
    kernel = ScriptedKernel(0)

    set_eswitch_mode(kernel.near, "0000:3b:00.0", SWITCHDEV_MODE)
    kernel.close()

    _, kind, flags, _, _ = HEADER.unpack_from(kernel.requests[1])
    assert (kind, flags) == (FAMILY, 0x1 | 0x4)
    assert kernel.requests[1][16:] == (
        b"\x1e\x01\0\0"  # DEVLINK_CMD_ESWITCH_SET, version 1
        b"\x08\0\x01\0pci\0"
        b"\x11\0\x02\x000000:3b:00.0\0\0\0\0"
        b"\x06\0\x19\0\x01\0\0\0"
    )


def test_a_driver_without_modes_refuses() -> None:
    kernel = ScriptedKernel(EOPNOTSUPP)

    with pytest.raises(OSError, match="not supported") as refused:
        set_eswitch_mode(kernel.near, "0000:3b:00.0", SWITCHDEV_MODE)
    kernel.close()

    assert refused.value.errno == EOPNOTSUPP


def test_a_kernel_without_devlink_is_said() -> None:
    kernel = ScriptedKernel(0, has_devlink=False)

    with pytest.raises(OSError, match="no devlink"):
        set_eswitch_mode(kernel.near, "0000:3b:00.0", SWITCHDEV_MODE)
    kernel.close()

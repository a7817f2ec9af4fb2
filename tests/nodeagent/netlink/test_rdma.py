"""RDMA requests equal recorded bytes, and answers recorded from a kernel are parsed."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from errno import EBUSY, EOPNOTSUPP
from pathlib import Path

import pytest

from nodeagent.netlink.rdma import RdmaDevice, RdmaPort, RdmaSocket

RECORDED = Path(__file__).parent / "recorded/rdma.txt"
GUID = 0x505400FFFE123456
DEVICE = RdmaDevice(0, "rxe0", GUID, GUID)
TARGET_NETNS_FD = 4  # as in the recording


def exchanges() -> dict[str, list[str]]:
    """Name of an exchange -> lines; ``> `` starts a request and ``< `` an answer."""
    name, lines_by_name = "", dict[str, list[str]]()
    for line in RECORDED.read_text().splitlines():
        if line.startswith(("> ", "< ")):
            lines_by_name[name].append(line)
        elif not line.startswith("#"):
            name = line
            lines_by_name[name] = []
    return lines_by_name


class RecordedKernel:
    """Expects the recorded requests and sends the recorded answers."""

    def __init__(self, lines: Sequence[str]) -> None:
        near, self._far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket = RdmaSocket(near)
        self.unexpected: list[str] = []
        self._lines = lines
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        for line in self._lines:
            data = bytes.fromhex(line[2:])
            if line.startswith("<"):
                self._far.send(data)
            elif (request := self._far.recv(1 << 16)) != data:
                self.unexpected.append(request.hex())

    def close(self) -> None:
        self.socket.__exit__(None, None, None)
        self._far.close()
        self._thread.join()


Replay = Callable[[str], RdmaSocket]


@pytest.fixture
def replay() -> Iterator[Replay]:
    kernels: list[RecordedKernel] = []

    def start(name: str) -> RdmaSocket:
        kernels.append(RecordedKernel(exchanges()[name]))
        return kernels[-1].socket

    yield start
    for kernel in kernels:
        kernel.close()
    assert [kernel.unexpected for kernel in kernels] == [[] for _ in kernels]


def test_exclusive_is_true_only_in_exclusive_mode(replay: Replay) -> None:
    assert (replay("mode shared").exclusive(), replay("mode exclusive").exclusive()) == (
        False,
        True,
    )


def test_set_exclusive_fails_while_another_namespace_exists(replay: Replay) -> None:
    replay("exclusive").set_exclusive(exclusive=True)

    with pytest.raises(OSError, match="busy") as refused:
        replay("exclusive while a namespace exists").set_exclusive(exclusive=True)
    assert refused.value.errno == EBUSY


def test_rdma_devices_and_their_ports_are_read(replay: Replay) -> None:
    assert replay("devices").devices() == [DEVICE]
    assert replay("ports").ports(DEVICE) == [RdmaPort(1, "eth0")]


def test_move_raises_oserror_if_the_driver_cannot_move_devices(replay: Replay) -> None:
    with pytest.raises(OSError, match="not supported") as refused:
        replay("move").move(DEVICE, TARGET_NETNS_FD)
    assert refused.value.errno == EOPNOTSUPP

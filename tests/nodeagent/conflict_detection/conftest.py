"""A conflict detector, and a socket that receives all frames on the link."""

from __future__ import annotations

import socket
import struct
from collections.abc import AsyncIterator, Iterator
from typing import Final

import pytest

from nodeagent.conflict_detection.detector import Detector
from nodeagent.netlink.namespaces import NetnsExecutor, NetworkNamespace
from tests.support.link import Link, Station

ETH_P_ALL: Final = 3
RECEIVE_TIMEOUT: Final = struct.pack("ll", 5, 0)
"""A struct timeval of five seconds."""


@pytest.fixture
async def detector(executor: NetnsExecutor) -> AsyncIterator[Detector]:
    detector = Detector(executor)
    yield detector
    await detector.close()


@pytest.fixture
def listening_station(link: Link) -> Station:
    return link.station()


@pytest.fixture
def listener(listening_station: Station) -> Iterator[socket.socket]:
    """A socket that receives all frames at ``listening_station``."""

    def open_socket() -> socket.socket:
        raw_socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        raw_socket.bind(("eth0", ETH_P_ALL))
        raw_socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, RECEIVE_TIMEOUT)
        return raw_socket

    executor = NetnsExecutor()
    with (
        NetworkNamespace.open(listening_station.netns) as namespace,
        executor.run(namespace, open_socket) as raw_socket,
    ):
        yield raw_socket
    executor.close()

"""The framed socket serves slow callers, and survives a lack of file descriptors."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from errno import EMFILE
from pathlib import Path

import pytest

from core.allocation.add_request import HasHungUp
from core.process.supervision import Supervisor
from nodeagent.servers import framed_server
from nodeagent.servers.framed_server import FramedServer
from tests.support.agent_harness import exchange, request_frame

ANSWER_BYTES = 4 << 20  # more than a socket buffer holds
REQUEST = request_frame({"CNI_COMMAND": "VERSION"}, b"{}")


class ListeningSocket(socket.socket):
    """A listening socket whose next ``failures`` calls of ``accept`` raise EMFILE."""

    failures = 0

    def accept(self) -> tuple[socket.socket, object]:
        if self.failures:
            self.failures -= 1
            raise OSError(EMFILE, "Too many open files")
        return super().accept()


async def give_large_answer(_environment: bytes, stdin: bytes, _: HasHungUp) -> tuple[int, bytes]:
    return 0, stdin[:1] * ANSWER_BYTES


@pytest.fixture
def listening(short_path: Path) -> ListeningSocket:
    bound = ListeningSocket(socket.AF_UNIX)
    bound.bind(str(short_path / "s"))
    bound.setblocking(False)
    return bound


@pytest.fixture
async def server(listening: ListeningSocket) -> AsyncIterator[FramedServer]:
    supervisor = Supervisor()
    server = FramedServer(give_large_answer, supervisor)
    await server.open(listening, backlog=16)
    yield server
    server.close()
    await server.end()
    await supervisor.close()


async def test_an_answer_larger_than_the_socket_buffer_arrives_completely(
    server: FramedServer, short_path: Path
) -> None:
    reply = await exchange(str(short_path / "s"), REQUEST)

    assert reply.body == b"{" * ANSWER_BYTES
    assert not server.connections
    assert server.bytes_held == 0


async def test_a_connection_whose_caller_does_not_read_the_answer_is_closed(
    server: FramedServer, short_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(framed_server, "REQUEST_S_MAX", 0.0)
    monkeypatch.setattr(framed_server, "TIMEOUT_CHECK_S", 0.01)
    with socket.socket(socket.AF_UNIX) as caller:
        caller.connect(str(short_path / "s"))
        caller.sendall(REQUEST)
        async with asyncio.timeout(20):
            while not server.connections:
                await asyncio.sleep(0)
            while server.connections:
                await asyncio.sleep(0)

    assert server.bytes_held == 0


async def test_a_connection_is_accepted_when_descriptors_are_free_again(
    server: FramedServer,
    listening: ListeningSocket,
    short_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(framed_server, "ACCEPT_PAUSE_S", 0.01)
    listening.failures = 2

    reply = await exchange(str(short_path / "s"), REQUEST)

    assert reply.status == 0
    assert server.counts.refused == 2


async def test_close_closes_a_connection_that_is_not_accepted_yet(
    server: FramedServer, listening: ListeningSocket, short_path: Path
) -> None:
    listening.failures = 1_000
    with socket.socket(socket.AF_UNIX) as caller:
        caller.connect(str(short_path / "s"))
        while not server.counts.refused:
            await asyncio.sleep(0)
        server.close()

        with pytest.raises(ConnectionError):
            caller.sendall(REQUEST)

"""A fake agent with chosen faults.

It implements docs/reference/cni-executables.md and shares no code with the product.
"""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

WAIT_S = 60


class Request(NamedTuple):
    environment: dict[bytes, bytes]
    stdin: bytes


def read_request(connection: socket.socket, chunk_bytes: int = 1 << 16) -> Request:
    with connection.makefile("rb", buffering=chunk_bytes) as stream:
        magic, length = struct.unpack(">4sI", stream.read(8))
        assert magic == b"OWC1"
        body = stream.read(length)
    assert len(body) == length
    block, _, stdin = body.partition(b"\0\0")
    pairs = (entry.split(b"=", 1) for entry in block.split(b"\0"))
    return Request(dict(pairs), stdin)


def answer_frame(exit_status: int, stdout: bytes) -> bytes:
    """Encode an answer: the exit status and standard output of the executable."""
    return struct.pack(">BI", exit_status, len(stdout)) + stdout


class FakeAgent:
    """A server on the socket ``<path>.fast`` that calls ``behave`` for every connection.

    ``last_bytes``: what ``reading_once`` received; empty if the caller closed the connection.
    """

    def __init__(self, path: Path, behave: Callable[[FakeAgent, socket.socket], None]) -> None:
        self.requests: list[Request] = []
        self.last_bytes = b""
        self.request_arrived = threading.Event()
        self.last_bytes_received = threading.Event()
        self._behave = behave
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(f"{path}.fast")
        self._socket.listen(16)
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(WAIT_S)

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection:
                self._behave(self, connection)

    def read(self, connection: socket.socket, chunk_bytes: int = 1 << 16) -> Request:
        request = read_request(connection, chunk_bytes)
        self.requests.append(request)
        self.request_arrived.set()
        return request


Behaviour = Callable[[FakeAgent, socket.socket], None]


def answering(answer: bytes) -> Behaviour:
    """Read the request, send the answer in one piece, and close."""

    def behave(agent: FakeAgent, connection: socket.socket) -> None:
        agent.read(connection)
        connection.sendall(answer)

    return behave


def answering_in_pieces(answer: bytes) -> Behaviour:
    """Read the request, and send the answer byte by byte."""

    def behave(agent: FakeAgent, connection: socket.socket) -> None:
        agent.read(connection)
        for byte in answer:
            connection.sendall(bytes([byte]))

    return behave


def answering_early(answer: bytes) -> Behaviour:
    """Answer after the first bytes of the request, and close without reading more."""

    def behave(agent: FakeAgent, connection: socket.socket) -> None:
        connection.recv(8)
        connection.sendall(answer)
        connection.shutdown(socket.SHUT_WR)

    return behave


def reading_slowly(answer: bytes) -> Behaviour:
    def behave(agent: FakeAgent, connection: socket.socket) -> None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        agent.read(connection, chunk_bytes=512)
        connection.sendall(answer)

    return behave


def hanging(agent: FakeAgent, connection: socket.socket) -> None:
    """Read the request, then wait until the caller closes the connection."""
    agent.read(connection)
    reading_once(agent, connection)


def reading_once(agent: FakeAgent, connection: socket.socket) -> None:
    """Receive once, and store the bytes in ``agent.last_bytes``."""
    connection.settimeout(WAIT_S)
    agent.last_bytes = connection.recv(1 << 16)
    agent.last_bytes_received.set()


def answering_and_reading(answer: bytes) -> Behaviour:
    """Answer, then store in ``agent.last_bytes`` what the caller sends after the answer."""

    def behave(agent: FakeAgent, connection: socket.socket) -> None:
        agent.read(connection)
        connection.sendall(answer)
        reading_once(agent, connection)

    return behave

"""Sends CNI calls as binary frames to the framed sockets of agents.

Each call opens a new connection, as the CNI executable does. The program does not use asyncio, to
leave the CPU to the agents.

Parameters: ``sockets``, ``callers``, ``verb``, ``first`` (Pod number), ``count``, ``netconf``.
Report: ``seconds``, ``latencies_ms``, ``failures`` (texts), ``addresses`` (in the order of the
answers).
"""

from __future__ import annotations

import json
import select
import socket
import sys
import time
from collections import deque
from collections.abc import Sequence
from typing import Any

from bench.rig.frames import frame

SUCCESS_BYTE = b"\0"
ANSWER_HEAD_BYTES = 5
"""An answer begins with ``SUCCESS_BYTE`` or an error code, then the length of the body."""

ANSWER_S_MAX = 60.0
"""A run fails if no answer arrives for this time."""

RECEIVE_BYTES = 65_536


class ConcurrentCallers:
    """Callers in one process, each with one call at a time."""

    def __init__(self, sockets: Sequence[str], frames: Sequence[bytes]) -> None:
        self._sockets = sockets
        self._frames = deque(frames)
        self._epoll = select.epoll()
        self._connections: dict[int, Connection] = {}
        self.latencies_s: list[float] = []
        self.answers: list[bytes] = []

    def run(self, callers: int) -> float:
        """Make all calls; return the elapsed seconds. Raises TimeoutError."""
        started = time.perf_counter()
        for caller in range(min(callers, len(self._frames))):
            self._begin(self._sockets[caller % len(self._sockets)])
        while self._connections:
            ready = self._epoll.poll(ANSWER_S_MAX)
            if not ready:
                raise TimeoutError(
                    f"{len(self._connections)} callers got no answer in {ANSWER_S_MAX:g} s"
                )
            for descriptor, _ in ready:
                self._advance(self._connections[descriptor])
        return time.perf_counter() - started

    def _begin(self, path: str) -> None:
        connection = Connection(path, self._frames.popleft())
        self._connections[connection.descriptor] = connection
        self._epoll.register(connection.descriptor, select.EPOLLIN)

    def _advance(self, connection: Connection) -> None:
        if not connection.receive():
            return
        self.latencies_s.append(time.perf_counter() - connection.began)
        self.answers.append(bytes(connection.answer))
        del self._connections[connection.descriptor]
        self._epoll.unregister(connection.descriptor)
        connection.close()
        if self._frames:
            self._begin(connection.path)


class Connection:
    """The connection of one call. ``began``: the ``perf_counter`` before connecting."""

    __slots__ = ("_socket", "answer", "began", "descriptor", "path")

    def __init__(self, path: str, request: bytes) -> None:
        self.path = path
        self.answer = bytearray()
        self.began = time.perf_counter()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.connect(path)
        self._socket.sendall(request)
        self._socket.setblocking(False)
        self.descriptor = self._socket.fileno()

    def receive(self) -> bool:
        """Receive data; return whether the answer is complete or the connection is closed."""
        data = self._socket.recv(RECEIVE_BYTES)
        self.answer += data
        if not data:
            return True
        body_bytes = int.from_bytes(self.answer[1:ANSWER_HEAD_BYTES], "big")
        return len(self.answer) == ANSWER_HEAD_BYTES + body_bytes

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()


def call(parameters: dict[str, Any]) -> dict[str, Any]:
    """Make the calls; return the report."""
    conf = parameters["netconf"].encode()
    first, count = parameters["first"], parameters["count"]
    frames = [frame(parameters["verb"], serial, conf) for serial in range(first, first + count)]
    callers = ConcurrentCallers(parameters["sockets"], frames)
    seconds = callers.run(parameters["callers"])
    failures = [failure_text(answer) for answer in callers.answers if answer[:1] != SUCCESS_BYTE]
    return {
        "seconds": seconds,
        "latencies_ms": [latency * 1e3 for latency in callers.latencies_s],
        "failures": failures,
        "addresses": [address for answer in callers.answers for address in _addresses(answer)],
    }


def failure_text(answer: bytes) -> str:
    """The text of the answer of a call that failed."""
    return answer[ANSWER_HEAD_BYTES:].decode(errors="replace") or "no answer"


def _addresses(answer: bytes) -> list[str]:
    body = answer[ANSWER_HEAD_BYTES:]
    if answer[:1] != SUCCESS_BYTE or not body:
        return []
    return [entry["address"].partition("/")[0] for entry in json.loads(body)["ips"]]


if __name__ == "__main__":
    json.dump(call(json.load(sys.stdin)), sys.stdout)

"""Sends CNI calls as binary frames to the framed sockets of agents.

Each call opens a new connection, as the CNI executable does. All callers are in one process with
one epoll and no event loop, to leave the CPU to the agents.

Parameters: ``sockets``, ``callers``, ``verb``, ``first`` (the number of the first Pod), ``count``
(of Pods), ``netconf``. Report: ``seconds``, ``latencies_ms``, ``failures`` (texts), ``addresses``
(in the order in which the answers arrived).
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
"""Bytes before an answer's body: ``SUCCESS_BYTE`` or an error code, and the body's length."""

ANSWER_S_MAX = 60.0
"""Seconds without any answer after which a run fails."""

RECEIVE_BYTES = 65_536


class ConcurrentCallers:
    """Several callers in one process, each with one call at a time."""

    def __init__(self, sockets: Sequence[str], frames: Sequence[bytes]) -> None:
        self._sockets = sockets
        self._frames = deque(frames)
        self._epoll = select.epoll()
        self._open: dict[int, Connection] = {}
        self.latencies_s: list[float] = []
        self.answers: list[bytes] = []

    def run(self, callers: int) -> float:
        """Make all calls and return the seconds they took. Raises TimeoutError."""
        started = time.perf_counter()
        for caller in range(min(callers, len(self._frames))):
            self._begin(self._sockets[caller % len(self._sockets)])
        while self._open:
            ready = self._epoll.poll(ANSWER_S_MAX)
            if not ready:
                raise TimeoutError(f"{len(self._open)} callers got no answer")
            for descriptor, _ in ready:
                self._advance(self._open[descriptor])
        return time.perf_counter() - started

    def _begin(self, path: str) -> None:
        connection = Connection(path, self._frames.popleft())
        self._open[connection.descriptor] = connection
        self._epoll.register(connection.descriptor, select.EPOLLIN)

    def _advance(self, connection: Connection) -> None:
        if not connection.receive():
            return
        self.latencies_s.append(time.perf_counter() - connection.began)
        self.answers.append(bytes(connection.answer))
        del self._open[connection.descriptor]
        self._epoll.unregister(connection.descriptor)
        connection.close()
        if self._frames:
            self._begin(connection.path)


class Connection:
    """The connection of one call. ``began``: ``perf_counter`` before the connection is opened."""

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
    """Make the calls that the parameters define; return the report."""
    conf = parameters["netconf"].encode()
    first, count = parameters["first"], parameters["count"]
    frames = [frame(parameters["verb"], serial, conf) for serial in range(first, first + count)]
    callers = ConcurrentCallers(parameters["sockets"], frames)
    seconds = callers.run(parameters["callers"])
    failures = [_text(answer) for answer in callers.answers if answer[:1] != SUCCESS_BYTE]
    return {
        "seconds": seconds,
        "latencies_ms": [latency * 1e3 for latency in callers.latencies_s],
        "failures": failures,
        "addresses": [address for answer in callers.answers for address in _addresses(answer)],
    }


def _addresses(answer: bytes) -> list[str]:
    body = answer[ANSWER_HEAD_BYTES:]
    if answer[:1] != SUCCESS_BYTE or not body:
        return []
    return [entry["address"].partition("/")[0] for entry in json.loads(body)["ips"]]


def _text(answer: bytes) -> str:
    return answer[ANSWER_HEAD_BYTES:].decode(errors="replace") or "no answer"


if __name__ == "__main__":
    json.dump(call(json.load(sys.stdin)), sys.stdout)

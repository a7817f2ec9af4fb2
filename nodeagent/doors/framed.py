"""The framed socket: one CNI call a connection, raw bytes in, standard output out (docs/cni.md).

    request   "OWC1" | u32 n | n bytes: environment block, then standard input as it came
    answer    u8 exit status | u32 n | n bytes: standard output as it shall be

No streams and no HTTP: this is the path of every Pod. Promise: whatever comes in, one answer goes
out or the connection is closed; no request is larger than the bound; a request whose caller has
hung up is not started, and one that is started goes on to its end, caller or no caller. It knows
frames and nothing of CNI: ``answer`` does the work.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable
from typing import Final, cast

from core.service.add_request import HasHungUp
from core.supervision import RESTARTS_MAX, BackgroundTasks, Supervisor, TaskSpec
from nodeagent.cniwire.failures import (
    FRAME_REFUSED,
    TRY_AGAIN_LATER,
    CniFailure,
    error_object,
)
from nodeagent.cniwire.netconf import LATEST
from nodeagent.doors.connections import ConnectionCounts
from nodeagent.doors.sockets import caller_hung_up, may_call

MAGIC: Final = b"OWC1"
HEAD_BYTES: Final = 8
REQUEST_BYTES_MAX: Final = 1 << 20
REQUEST_S_MAX: Final = 10.0
"""From the connection to the last byte of the request."""

CONNECTIONS_MAX: Final = 4_096
"""Open connections; one more is closed at once. Requests have a tighter bound of their own."""

REQUESTS_BYTES_MAX: Final = 64 << 20
"""Bytes of all requests together, unfinished and under way; a request above it is refused."""

NAME: Final = "framed socket"
SWEEP_S: Final = 1.0
"""Between two looks for such callers, while there are connections."""

SWEEPER: Final = "cni-request-timeouts"
"""The name at the supervisor of the task that closes them."""

Answer = tuple[int, bytes]
Answering = Callable[[bytes, bytes, HasHungUp], Awaitable[Answer]]
"""(environment block, standard input, whether the caller is gone) -> (exit status, standard
output); must not raise."""

_log = logging.getLogger(__name__)


class FramedDoor:
    """Serves the framed protocol on one listening socket."""

    def __init__(
        self, answer: Answering, supervisor: Supervisor, counts: ConnectionCounts | None = None
    ) -> None:
        self._answer = answer
        self._supervisor = supervisor
        self.counts = counts or ConnectionCounts()
        self.bytes_held = 0
        self._server: asyncio.Server | None = None
        self.tasks = BackgroundTasks("CNI call")
        self.connections: set[FramedConnection] = set()
        self.occupied = asyncio.Event()

    async def open(self, listening: socket.socket, backlog: int) -> None:
        """Begin to accept."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_unix_server(
            lambda: FramedConnection(self, self._answer), sock=listening, backlog=backlog
        )
        self._supervisor.start(TaskSpec(SWEEPER, self._sweep, RESTARTS_MAX))

    def add(self, connection: FramedConnection) -> None:
        """A caller that may call."""
        self.connections.add(connection)
        self.occupied.set()

    def close(self) -> None:
        """Accept no more; connections that wait for their answer go on."""
        if self._server is not None:
            self._server.close()
        for connection in [each for each in self.connections if not each.is_asking]:
            connection.abort()

    async def end(self) -> None:
        """Drop every connection that is left."""
        await self._supervisor.end(SWEEPER)
        await asyncio.gather(*(connection.end() for connection in self.connections))

    async def _sweep(self) -> None:
        """Close callers that do not finish their request; one clock instead of one timer each."""
        loop = asyncio.get_running_loop()
        while True:
            await self.occupied.wait()
            await asyncio.sleep(SWEEP_S)
            oldest = loop.time() - REQUEST_S_MAX
            for connection in list(self.connections):
                if not connection.is_asking and connection.since < oldest:
                    connection.refuse(f"the request did not arrive within {REQUEST_S_MAX:g} s")
            if not self.connections:
                self.occupied.clear()


class FramedConnection(asyncio.Protocol):
    """One call."""

    __slots__ = (
        *("_answer", "_buffer", "_bytes_held", "_door", "_length", "_task", "_transport"),
        "since",
    )

    def __init__(self, door: FramedDoor, answer: Answering) -> None:
        self._door = door
        self._answer = answer
        self._buffer = bytearray()
        self._bytes_held = 0
        self._length = -1
        self._task: asyncio.Task[None] | None = None
        self._transport: asyncio.Transport | None = None
        self.since = 0.0

    @property
    def is_asking(self) -> bool:
        """The whole request is there and waits for its answer."""
        return self._task is not None

    def has_hung_up(self) -> bool:
        """The caller has closed its connection."""
        return caller_hung_up(self._transport)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Check who calls and how many do."""
        # Not an isinstance check: the transports of uvloop are none of asyncio's classes.
        self._transport = cast("asyncio.Transport", transport)
        self.since = asyncio.get_running_loop().time()
        refusal = self._refusal(transport.get_extra_info("socket"))
        if refusal:
            self._door.counts.refuse(NAME, refusal)
            self.abort()
            return
        self._door.add(self)

    def data_received(self, data: bytes) -> None:
        """Collect the request; start once it is whole."""
        if self._task is not None or self not in self._door.connections:
            return  # what follows the request is not ours to read
        if not self._hold(len(data)):
            return
        self._buffer += data
        if self._length < 0 and not self._read_head():
            return
        if len(self._buffer) < HEAD_BYTES + self._length:
            return
        body = bytes(self._buffer[HEAD_BYTES : HEAD_BYTES + self._length])
        self._buffer = bytearray()
        if body.startswith(b"\0"):
            environment, stdin = b"", body[1:]
        else:
            environment, end, stdin = body.partition(b"\0\0")
            if not end:
                self.refuse("the environment block does not end")
                return
        self._task = self._door.tasks.start(self.serve_frame(environment, stdin))

    def connection_lost(self, exc: Exception | None) -> None:
        """The caller is gone, which is no order: what was started goes on (docs/cni.md)."""
        if self._task is None or self._task.done():
            self._let_go()

    def refuse(self, why: str) -> None:
        """Answer that these bytes are no request, and close."""
        failure = CniFailure(FRAME_REFUSED, f"not a request of the executable: {why}")
        self._send(1, error_object(LATEST, failure))

    def abort(self) -> None:
        """Close without an answer."""
        if self._transport is not None:
            self._transport.abort()

    async def end(self) -> None:
        """Break off the work, if there is any, and close."""
        self.abort()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def _refusal(self, peer: socket.socket) -> str:
        """Why this caller is not served; "" for no reason."""
        if len(self._door.connections) >= CONNECTIONS_MAX:
            return f"{CONNECTIONS_MAX} are open, as many as are allowed"
        return "" if may_call(peer) else "the caller is neither root nor this agent's user"

    def _hold(self, length: int) -> bool:
        """Count bytes that came; False, with an answer, when all requests hold too many."""
        self._bytes_held += length
        self._door.bytes_held += length
        if self._door.bytes_held <= REQUESTS_BYTES_MAX:
            return True
        self._door.counts.refuse(NAME, f"all requests hold {REQUESTS_BYTES_MAX} bytes")
        text = f"the requests under way hold {REQUESTS_BYTES_MAX} bytes, as many as are allowed"
        self._send(1, error_object(LATEST, CniFailure(TRY_AGAIN_LATER, text, "try again")))
        self._let_go()
        return False

    def _let_go(self) -> None:
        """The connection holds nothing any more."""
        self._door.connections.discard(self)
        self._door.bytes_held -= self._bytes_held
        self._bytes_held = 0
        self._buffer = bytearray()

    def _read_head(self) -> bool:
        head = self._buffer
        if not MAGIC.startswith(bytes(head[:4])):
            self.refuse("it does not begin with OWC1")
            return False
        if len(head) < HEAD_BYTES:
            return False
        length = int.from_bytes(head[4:HEAD_BYTES], "big")
        if length > REQUEST_BYTES_MAX:
            self.refuse(f"it announces {length} bytes, {REQUEST_BYTES_MAX} are possible")
            return False
        self._length = length
        return True

    async def serve_frame(self, environment: bytes, stdin: bytes) -> None:
        """Answer one request, unless its caller is gone."""
        try:
            if self.has_hung_up():
                self._door.counts.abandon(NAME)
                self.abort()
                return
            status, body = await self._answer(environment, stdin, self.has_hung_up)
            self._send(status, body)
        except Exception:  # noqa: BLE001  # the caller must not wait for what will never come
            _log.exception("a call without an answer")
            self.abort()
        finally:
            self._let_go()

    def _send(self, status: int, body: bytes) -> None:
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        transport.write(b"%c%b%b" % (status, len(body).to_bytes(4, "big"), body))
        transport.close()

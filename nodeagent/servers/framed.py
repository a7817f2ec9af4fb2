"""The framed socket: one CNI call a connection, raw bytes in, standard output out.

See docs/reference/cni-executables.md.

    request   "OWC1" | u32 n | n bytes: environment block, then standard input as it came
    answer    u8 exit status | u32 n | n bytes: standard output as it shall be

No streams, no transports and no HTTP: this is the path of every Pod. Mostly the request is there
when its connection is accepted, so that one read and one write serve it, and nothing is watched.
Promise: whatever comes in, one answer goes out or the connection is closed; no request is larger
than the bound; a request whose caller has hung up is not started, and one that is started goes on
to its end, caller or no caller. It knows frames and nothing of CNI: ``answer`` does the work.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable
from typing import Final

from core.allocation.add_request import HasHungUp
from core.process.connections import ConnectionCounts
from core.process.supervision import RESTARTS_MAX, BackgroundTasks, Supervisor, TaskSpec
from nodeagent.cni_protocol.failures import (
    FRAME_REFUSED,
    TRY_AGAIN_LATER,
    CniFailure,
    error_object,
)
from nodeagent.cni_protocol.netconf import LATEST
from nodeagent.servers.sockets import hang_up_poll, may_call

MAGIC: Final = b"OWC1"
HEAD_BYTES: Final = 8
REQUEST_BYTES_MAX: Final = 1 << 20
REQUEST_S_MAX: Final = 10.0
"""From the connection to the last byte of the request."""

CONNECTIONS_MAX: Final = 4_096
"""Open connections; one more is closed at once. Requests have a tighter bound of their own."""

REQUESTS_BYTES_MAX: Final = 64 << 20
"""Bytes of all requests together, unfinished and under way; a request above it is refused."""

RECEIVE_BYTES: Final = 65_536
"""Of one read; most requests are some hundred bytes."""

ACCEPTS_MAX: Final = 64
"""Connections accepted at once, before requests under way go on."""

ACCEPT_PAUSE_S: Final = 1.0
"""Before the next try to accept where this process has no descriptor or memory for one."""

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


class FramedServer:
    """Serves the framed protocol on one listening socket."""

    def __init__(
        self, answer: Answering, supervisor: Supervisor, counts: ConnectionCounts | None = None
    ) -> None:
        self._answer = answer
        self._supervisor = supervisor
        self.counts = counts or ConnectionCounts()
        self.bytes_held = 0
        self._listening: socket.socket | None = None
        self._pause: asyncio.TimerHandle | None = None
        self.tasks = BackgroundTasks("CNI call")
        self.connections: set[FramedConnection] = set()
        self.occupied = asyncio.Event()

    async def open(self, listening: socket.socket, backlog: int) -> None:
        """Begin to accept."""
        listening.listen(backlog)
        self._listening = listening
        self._watch(listening)
        self._supervisor.start(TaskSpec(SWEEPER, self._sweep, RESTARTS_MAX))

    def close(self) -> None:
        """Accept no more; connections that wait for their answer go on."""
        listening, self._listening = self._listening, None
        if listening is not None:
            self._unwatch(listening)
            listening.close()
        for connection in [each for each in self.connections if not each.has_request]:
            connection.abort()

    async def end(self) -> None:
        """Drop every connection that is left."""
        await self._supervisor.end(SWEEPER)
        await asyncio.gather(*(connection.end() for connection in list(self.connections)))

    def _watch(self, listening: socket.socket) -> None:
        self._pause = None
        asyncio.get_running_loop().add_reader(listening.fileno(), self._accept, listening)

    def _unwatch(self, listening: socket.socket) -> None:
        if self._pause is not None:
            self._pause.cancel()
        asyncio.get_running_loop().remove_reader(listening.fileno())

    def _accept(self, listening: socket.socket) -> None:
        """Take the connections that wait, with the bytes that are there already."""
        for _ in range(ACCEPTS_MAX):
            try:
                peer, _address = listening.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError as error:  # no descriptor or memory left: ask again, not at once
                self.counts.refuse(NAME, f"it cannot be accepted: {error.strerror}")
                self._unwatch(listening)
                loop = asyncio.get_running_loop()
                self._pause = loop.call_later(ACCEPT_PAUSE_S, self._watch, listening)
                return
            self._serve_peer(FramedConnection(self, peer, self._answer), peer)

    def _serve_peer(self, connection: FramedConnection, peer: socket.socket) -> None:
        """Serve a caller that may call and has room."""
        if len(self.connections) >= CONNECTIONS_MAX:
            refusal = f"{CONNECTIONS_MAX} are open, as many as are allowed"
        elif not may_call(peer):
            refusal = "the caller is neither root nor this agent's user"
        else:
            self.connections.add(connection)
            self.occupied.set()
            connection.receive()
            return
        self.counts.refuse(NAME, refusal)
        connection.abort()

    async def _sweep(self) -> None:
        """Close callers that do not finish their request; one clock instead of one timer each."""
        loop = asyncio.get_running_loop()
        while True:
            await self.occupied.wait()
            await asyncio.sleep(SWEEP_S)
            oldest = loop.time() - REQUEST_S_MAX
            for connection in list(self.connections):
                if connection.since < oldest:
                    connection.time_out()
            if not self.connections:
                self.occupied.clear()


class FramedConnection:
    """One call. Its socket is watched only while bytes of it are missing."""

    __slots__ = (
        *("_answer", "_bytes_held", "_server", "_hang_up", "_is_watched", "_length", "_received"),
        *("_socket", "_task", "_unsent", "since"),
    )

    def __init__(self, server: FramedServer, peer: socket.socket, answer: Answering) -> None:
        self._server = server
        self._socket = peer
        self._hang_up = hang_up_poll(peer)
        self._answer = answer
        self._received: bytes | bytearray = b""
        self._unsent = b""
        self._bytes_held = 0
        self._length = -1
        self._is_watched = False
        self._task: asyncio.Task[None] | None = None
        self.since = asyncio.get_running_loop().time()

    @property
    def has_request(self) -> bool:
        """The whole request is there, and its answer is not yet sent."""
        return self._task is not None

    def has_hung_up(self) -> bool:
        """The caller has closed its connection."""
        return self._socket.fileno() < 0 or bool(self._hang_up.poll(0))

    def receive(self) -> None:
        """Collect the request; start once it is whole."""
        try:
            data = self._socket.recv(RECEIVE_BYTES, socket.MSG_DONTWAIT)
        except BlockingIOError:
            self._watch()
            return
        except OSError:
            data = b""
        if not data:  # the caller is gone: nothing was started, nothing is answered
            self.abort()
            return
        if not self._count_bytes(len(data)):
            return
        if not self._received:
            self._received = data
        else:
            if isinstance(self._received, bytes):
                self._received = bytearray(self._received)
            self._received += data
        if self._length < 0 and not self._read_head():
            return
        if len(self._received) < HEAD_BYTES + self._length:
            self._watch()
            return
        self._unwatch()
        self._start(bytes(self._received[HEAD_BYTES : HEAD_BYTES + self._length]))

    def time_out(self) -> None:
        """Close where the request was not there in time, or the caller does not read its answer."""
        if self._unsent:
            self.abort()
        elif self._task is None:
            self.refuse(f"the request did not arrive within {REQUEST_S_MAX:g} s")

    def refuse(self, why: str) -> None:
        """Answer that these bytes are no request, and close."""
        failure = CniFailure(FRAME_REFUSED, f"not a request of the executable: {why}")
        self._send(1, error_object(LATEST, failure))

    def abort(self) -> None:
        """Close without an answer, or without the rest of it; a request that is served goes on."""
        self._unwatch()
        self._socket.close()
        if self._task is None or self._unsent:
            self._forget()

    async def end(self) -> None:
        """Break off the work, if there is any, and close."""
        self.abort()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def _start(self, body: bytes) -> None:
        if body.startswith(b"\0"):
            environment, stdin = b"", body[1:]
        else:
            environment, end, stdin = body.partition(b"\0\0")
            if not end:
                self.refuse("the environment block does not end")
                return
        self._received = b""
        self._task = self._server.tasks.start(self.serve_frame(environment, stdin))

    def _count_bytes(self, length: int) -> bool:
        """Count bytes that came; False, with an answer, when all requests hold too many."""
        self._bytes_held += length
        self._server.bytes_held += length
        if self._server.bytes_held <= REQUESTS_BYTES_MAX:
            return True
        self._server.counts.refuse(NAME, f"all requests hold {REQUESTS_BYTES_MAX} bytes")
        text = f"the requests under way hold {REQUESTS_BYTES_MAX} bytes, as many as are allowed"
        self._send(1, error_object(LATEST, CniFailure(TRY_AGAIN_LATER, text, "try again")))
        return False

    def _forget(self) -> None:
        """The connection holds nothing any more."""
        self._server.connections.discard(self)
        self._server.bytes_held -= self._bytes_held
        self._bytes_held = 0
        self._received = self._unsent = b""

    def _read_head(self) -> bool:
        head = self._received
        if not MAGIC.startswith(bytes(head[:4])):
            self.refuse("it does not begin with OWC1")
            return False
        if len(head) < HEAD_BYTES:
            self._watch()
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
                self._server.counts.abandon(NAME)
            else:
                status, body = await self._answer(environment, stdin, self.has_hung_up)
                self._send(status, body)
        except Exception:  # noqa: BLE001  # the caller must not wait for what will never come
            _log.exception("a call without an answer")
        finally:
            if not self._unsent:
                self._socket.close()
                self._forget()

    def _send(self, status: int, body: bytes) -> None:
        """Send the answer and close; what the socket does not take at once follows."""
        self._unsent = b"%c%b%b" % (status, len(body).to_bytes(4, "big"), body)
        self._unwatch()
        self._send_rest()

    def _send_rest(self) -> None:
        try:
            sent = self._socket.send(self._unsent, socket.MSG_DONTWAIT)
        except BlockingIOError:
            sent = 0
        except OSError:  # the caller is gone, which is no order: what was done is done
            sent = len(self._unsent)
        self._unsent = self._unsent[sent:]
        loop = asyncio.get_running_loop()
        if self._unsent:
            self.since = loop.time()
            loop.add_writer(self._socket.fileno(), self._send_rest)
            self._is_watched = True
            return
        self._unwatch()
        self._socket.close()
        self._forget()

    def _watch(self) -> None:
        if not self._is_watched:
            self._is_watched = True
            asyncio.get_running_loop().add_reader(self._socket.fileno(), self.receive)

    def _unwatch(self) -> None:
        if self._is_watched:
            self._is_watched = False
            loop, number = asyncio.get_running_loop(), self._socket.fileno()
            loop.remove_reader(number)
            loop.remove_writer(number)

"""Serves the framed socket: one CNI call for each connection (docs/reference/cni-executables.md).

    request   "OWC1" | u32 n | n bytes: environment block, then standard input, unchanged
    answer    u8 exit status | u32 n | n bytes: standard output

Every Pod is created through this socket. For speed, the server uses no streams, transports or HTTP.
A request whose caller has left is not started; a running request continues.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

from core.allocation.add_request import HasHungUp
from core.errors import CallerGone
from core.process.connections import ConnectionCounts
from core.process.supervision import RESTARTS_MAX, Supervisor, TaskSpec
from nodeagent.cni_protocol.failures import (
    FRAME_REFUSED,
    TRY_AGAIN_LATER,
    CniFailure,
    error_object,
)
from nodeagent.cni_protocol.netconf import LATEST_CNI_VERSION
from nodeagent.servers.unix_sockets import has_hung_up, may_call

MAGIC: Final = b"OWC1"
HEAD_BYTES: Final = 8
"""``MAGIC`` and the length of the request."""

REQUEST_BYTES_MAX: Final = 1 << 20
REQUEST_S_MAX: Final = 10.0
"""A connection is closed if the request is incomplete after this time, or if the caller has read no
part of the answer for this time."""

CONNECTIONS_MAX: Final = 4_096
"""A connection above this limit is closed without an answer.

More than ``request_runner.REQUESTS_MAX``: a request above that limit gets an error object.
"""

ALL_REQUESTS_BYTES_MAX: Final = 64 << 20
"""Limit of the bytes of all incomplete and running requests together."""

RECEIVE_BYTES: Final = 65_536

ACCEPTS_MAX: Final = 64
"""Connections to accept at once. After them, running requests have a turn."""

ACCEPT_PAUSE_S: Final = 1.0

NAME: Final = "framed socket"
TIMEOUT_CHECK_S: Final = 1.0

TIMEOUT_TASK: Final = "cni-request-timeouts"

Answer = tuple[int, bytes]
AnswerCall = Callable[[bytes, bytes, HasHungUp], Awaitable[Answer]]
"""(environment block, standard input, whether the caller hung up) -> (exit status, output).

Raises only CallerGone.
"""

_log = logging.getLogger(__name__)


class FramedServer:
    """Serves the framed protocol on one listening socket."""

    def __init__(
        self, answer: AnswerCall, supervisor: Supervisor, counts: ConnectionCounts | None = None
    ) -> None:
        self._answer = answer
        self._supervisor = supervisor
        self.counts = counts or ConnectionCounts()
        self.bytes_held = 0
        self._listening: socket.socket | None = None
        self._pause: asyncio.TimerHandle | None = None
        self.connections: set[FramedConnection] = set()
        self.occupied = asyncio.Event()  # set while there are connections

    async def open(self, listening: socket.socket, backlog: int) -> None:
        """Begin to accept."""
        listening.listen(backlog)
        self._listening = listening
        self._watch(listening)
        self._supervisor.start(TaskSpec(TIMEOUT_TASK, self._close_late, RESTARTS_MAX))

    def close(self) -> None:
        """Accept no more connections, and abort incomplete requests. Running requests continue."""
        listening, self._listening = self._listening, None
        if listening is not None:
            self._unwatch(listening)
            listening.close()
        for connection in list(self.connections):
            if not connection.has_request:
                connection.abort()

    async def end(self) -> None:
        """Close all remaining connections."""
        await self._supervisor.end(TIMEOUT_TASK)
        await asyncio.gather(*(connection.end() for connection in list(self.connections)))

    def _watch(self, listening: socket.socket) -> None:
        self._pause = None
        asyncio.get_running_loop().add_reader(listening.fileno(), self._accept, listening)

    def _unwatch(self, listening: socket.socket) -> None:
        if self._pause is not None:
            self._pause.cancel()
        asyncio.get_running_loop().remove_reader(listening.fileno())

    def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        for _ in range(ACCEPTS_MAX):
            try:
                peer, _address = listening.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError as error:  # no descriptor or memory left
                self.counts.note_refused(NAME, f"cannot accept a connection: {error.strerror}")
                self._unwatch(listening)
                self._pause = loop.call_later(ACCEPT_PAUSE_S, self._watch, listening)
                return
            self._serve_peer(FramedConnection(self, peer, self._answer, loop), peer)

    def _serve_peer(self, connection: FramedConnection, peer: socket.socket) -> None:
        if len(self.connections) >= CONNECTIONS_MAX:
            refusal = f"the limit of {CONNECTIONS_MAX} open connections is reached"
        elif not may_call(peer):
            refusal = "the caller is neither root nor this agent's user"
        else:
            self.connections.add(connection)
            self.occupied.set()
            connection.receive()
            return
        self.counts.note_refused(NAME, refusal)
        connection.abort()

    async def _close_late(self) -> None:
        """Close overdue connections. One task costs less than a timer for each connection."""
        loop = asyncio.get_running_loop()
        while True:
            await self.occupied.wait()
            await asyncio.sleep(TIMEOUT_CHECK_S)
            oldest = loop.time() - REQUEST_S_MAX
            for connection in list(self.connections):
                if connection.since < oldest:
                    connection.time_out()
            if not self.connections:
                self.occupied.clear()


class FramedConnection:
    """One call. The event loop watches the socket only while a read or write is incomplete.

    ``since``: when the connection was accepted, or when a part of the answer was last sent.
    """

    __slots__ = (
        "_answer",
        "_bytes_held",
        "_is_watched",
        "_length",
        "_loop",
        "_received",
        "_server",
        "_socket",
        "_task",
        "_unsent",
        "since",
    )

    def __init__(
        self,
        server: FramedServer,
        peer: socket.socket,
        answer: AnswerCall,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._server = server
        self._loop = loop
        self._socket = peer
        self._answer = answer
        self._received: bytes | bytearray = b""
        self._unsent = b""
        self._bytes_held = 0
        self._length = -1  # bytes after the head; -1 until the head has arrived
        self._is_watched = False
        self._task: asyncio.Task[None] | None = None
        self.since = loop.time()

    @property
    def has_request(self) -> bool:
        """Whether the whole request has arrived."""
        return self._task is not None

    def receive(self) -> None:
        """Read bytes; start a complete request."""
        try:
            data = self._socket.recv(RECEIVE_BYTES, socket.MSG_DONTWAIT)
        except BlockingIOError:
            self._watch()
            return
        except OSError:
            data = b""
        if not data:  # the caller has hung up
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
        """Close if the request is incomplete or the answer is unread."""
        if self._unsent:
            self.abort()
        elif self._task is None:
            self.refuse(f"the request did not arrive within {REQUEST_S_MAX:g} s")

    def refuse(self, why: str) -> None:
        """Send an error object, and close the connection."""
        failure = CniFailure(
            FRAME_REFUSED,
            f"not a valid request frame: {why}",
            'send frames as in docs/reference/cni-executables.md, "Framing"',
        )
        self._send(1, error_object(LATEST_CNI_VERSION, failure))

    def abort(self) -> None:
        """Close the socket without a complete answer.

        A running request continues; its connection counts until the request ends.
        """
        self._unwatch()
        self._socket.close()
        if self._task is None or self._unsent:
            self._forget()

    async def end(self) -> None:
        """Cancel a running request, and close."""
        self.abort()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def _start(self, body: bytes) -> None:
        if body.startswith(b"\0"):  # an empty environment block is one NUL
            environment, stdin = b"", body[1:]
        else:
            environment, end, stdin = body.partition(b"\0\0")
            if not end:
                self.refuse("the environment block has no end (two NULs)")
                return
        self._received = b""
        self._task = self._loop.create_task(self.serve_frame(environment, stdin))

    def _count_bytes(self, length: int) -> bool:
        """Count received bytes; beyond ``ALL_REQUESTS_BYTES_MAX``, refuse and return False."""
        self._bytes_held += length
        self._server.bytes_held += length
        if self._server.bytes_held <= ALL_REQUESTS_BYTES_MAX:
            return True
        text = f"all running requests together have more than {ALL_REQUESTS_BYTES_MAX} bytes"
        self._server.counts.note_refused(NAME, text)
        self._send(
            1, error_object(LATEST_CNI_VERSION, CniFailure(TRY_AGAIN_LATER, text, "try again"))
        )
        return False

    def _forget(self) -> None:
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
            self.refuse(f"its length is {length} bytes, the limit is {REQUEST_BYTES_MAX}")
            return False
        self._length = length
        return True

    async def serve_frame(self, environment: bytes, stdin: bytes) -> None:
        """Answer one request, unless the caller has left."""
        answer: Answer | None = None
        try:
            answer = await self._answer(environment, stdin, partial(has_hung_up, self._socket))
        except CallerGone:
            self._server.counts.note_abandoned(NAME)
        except Exception:  # noqa: BLE001  # the finally clause closes the caller's connection
            _log.exception("cannot answer a CNI call (a bug in the agent)")
        finally:
            if answer is not None:
                self._send(*answer)
            else:
                self._close()

    def _send(self, status: int, body: bytes) -> None:
        """Send the answer, then close the connection."""
        self._unsent = b"%c%b%b" % (status, len(body).to_bytes(4, "big"), body)
        self._unwatch()
        self._continue_send()

    def _continue_send(self) -> None:
        try:
            sent = self._socket.send(self._unsent, socket.MSG_DONTWAIT)
        except BlockingIOError:
            sent = 0
        except OSError:  # the caller has hung up; the changes of its request stay
            sent = len(self._unsent)
        self._unsent = self._unsent[sent:]
        if self._unsent:
            self.since = self._loop.time()
            self._loop.add_writer(self._socket.fileno(), self._continue_send)
            self._is_watched = True
            return
        self._unwatch()
        self._close()

    def _close(self) -> None:
        self._socket.close()
        self._forget()

    def _watch(self) -> None:
        if not self._is_watched:
            self._is_watched = True
            self._loop.add_reader(self._socket.fileno(), self.receive)

    def _unwatch(self) -> None:
        if self._is_watched:
            self._is_watched = False
            number = self._socket.fileno()
            self._loop.remove_reader(number)
            self._loop.remove_writer(number)

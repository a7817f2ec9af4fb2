"""A channel to one endpoint: connects on request, and makes calls on the open connection.

A call needs a connection on which the server's settings have arrived; without one, the call fails
before anything is sent. After GOAWAY, the open calls of a connection go on, and later calls need a
new connection. Only ``connect`` connects. The channel never repeats a call.
"""

from __future__ import annotations

import asyncio
import random
import ssl
from contextlib import suppress
from typing import Final

from core.eventstore.etcd.http2.connection import Http2Connection
from core.eventstore.etcd.http2.headers import Metadata, request_headers
from core.eventstore.etcd.http2.status import RpcError, StatusCode
from core.eventstore.etcd.http2.stream import StreamingCall, UnaryCall
from core.eventstore.etcd.settings import CONNECT_ATTEMPT_S, RECONNECT_FIRST_S, RECONNECT_MAX_S
from core.process.retry import pause_s

DEFAULT_PORT: Final = 2379
_ALPN: Final = "h2"
_UNIX: Final = "unix:"


class Channel:
    """A channel to ``target``: ``host:port`` or ``unix:path``. ``context``: None without TLS."""

    def __init__(self, target: str, context: ssl.SSLContext | None) -> None:
        self.target = target
        self._context = context
        if context is not None:
            context.set_alpn_protocols([_ALPN])
        self._connection: Http2Connection | None = None
        self._unclosed: set[Http2Connection] = set()
        self._failures = 0
        self._pause_until = 0.0
        self._closed = False
        self.failure = "not tried yet"

    @property
    def is_ready(self) -> bool:
        """Whether calls can be made."""
        return self._connection is not None and self._connection.is_usable

    async def connect(self) -> bool:
        """Connect unless a connection is open. Returns whether a connection is open.

        A pause follows each failed attempt: until it ends, ``connect`` returns False at once. The
        pause grows up to ``RECONNECT_MAX_S``.
        """
        loop = asyncio.get_running_loop()
        if self.is_ready:
            return True
        if self._closed or loop.time() < self._pause_until:
            return False
        connection = Http2Connection(loop)
        try:
            async with asyncio.timeout(CONNECT_ATTEMPT_S):
                await self._open(connection)
                await connection.ready
        except TimeoutError:
            self._give_up(connection, f"no answer within {CONNECT_ATTEMPT_S:g} s")
        except (OSError, RpcError, ValueError, OverflowError) as error:
            self._give_up(connection, str(error))
        except asyncio.CancelledError:
            connection.close(_unsent("the channel was closed"))
            raise
        else:
            self._use(connection)
        return self.is_ready

    async def unary(
        self, path: str, request: bytes, *, timeout_s: float, metadata: Metadata
    ) -> bytes:
        """Returns the answer. Raises RpcError."""
        connection = self._usable()
        if connection.is_full:
            timeout_s = await _wait_for_free_stream(connection, timeout_s)
        block = self._block(path, metadata, timeout_s)
        call = UnaryCall(connection, asyncio.get_running_loop(), timeout_s)
        try:
            connection.open(call, block, request)
        except RpcError as error:
            call.on_end(error)
        return await call.answer()

    async def stream(self, path: str, *, metadata: Metadata) -> StreamingCall:
        """Open a stream in both directions. Raises RpcError."""
        connection = self._usable()
        if connection.is_full:
            await _wait_for_free_stream(connection, CONNECT_ATTEMPT_S)
        call = StreamingCall(connection)
        connection.open(call, self._block(path, metadata, timeout_s=0), message=None)
        return call

    def close(self) -> None:
        """Calls in flight fail."""
        self._closed = True
        for connection in self._unclosed:
            connection.close(RpcError(StatusCode.CANCELLED, "the connection was closed"))
        self._unclosed.clear()

    async def _open(self, connection: Http2Connection) -> None:
        """Raises OSError; ValueError or OverflowError for a target that cannot exist."""
        loop = asyncio.get_running_loop()
        if self.target.startswith(_UNIX):
            path = self.target.removeprefix(_UNIX).removeprefix("//")
            await loop.create_unix_connection(lambda: connection, path)
            return
        host, port = _address(self.target)
        await loop.create_connection(
            lambda: connection,
            host,
            port,
            ssl=self._context,
            server_hostname=host if self._context is not None else None,
        )

    def _give_up(self, connection: Http2Connection, reason: str) -> None:
        self.failure = reason
        self._failures += 1
        self._pause_until = asyncio.get_running_loop().time() + _reconnect_pause_s(self._failures)
        connection.close(_unsent(reason))

    def _use(self, connection: Http2Connection) -> None:
        if self._closed:
            connection.close(_unsent("the channel was closed"))
            return
        self._failures = 0
        self._connection = connection
        self._unclosed = {busy for busy in self._unclosed if busy.is_busy} | {connection}

    def _usable(self) -> Http2Connection:
        if self._connection is None or not self._connection.is_usable:
            raise _unsent("no connection")
        return self._connection

    def _block(self, path: str, metadata: Metadata, timeout_s: float) -> bytes:
        return request_headers(
            path,
            "localhost" if self.target.startswith(_UNIX) else self.target,
            metadata,
            max(1, int(timeout_s * 1000)) if timeout_s else 0,
            secure=self._context is not None,
        )


async def _wait_for_free_stream(connection: Http2Connection, timeout_s: float) -> float:
    """Wait at most ``timeout_s``. Returns the rest of ``timeout_s``. Raises RpcError."""
    loop = asyncio.get_running_loop()
    ends_at = loop.time() + timeout_s
    left_s = 0.0
    with suppress(TimeoutError):
        async with asyncio.timeout_at(ends_at):
            await connection.wait_for_free_stream()
            left_s = ends_at - loop.time()
    if left_s <= 0:
        raise _unsent("the server accepts no further stream")
    return left_s


def _address(target: str) -> tuple[str, int]:
    """Split a target into host and port. An IPv6 address with a port needs brackets."""
    host, colon, port = target.rpartition(":")
    if not colon or not port.isdecimal() or host.endswith(":"):
        host, port = target, str(DEFAULT_PORT)
    return host.removeprefix("[").removesuffix("]"), int(port)


def _reconnect_pause_s(failures: int) -> float:
    longest = pause_s(failures, RECONNECT_FIRST_S, RECONNECT_MAX_S)
    return random.uniform(longest / 2, longest)  # noqa: S311  # spreads clients; no secret


def _unsent(text: str) -> RpcError:
    return RpcError(StatusCode.UNAVAILABLE, text, processed=False)

"""Bounds on the connections of one listening port, and an HTTP server that keeps them.

A connection above the bound is closed at once. A connection that sends no whole request head in
``HEAD_S_MAX``, or stays idle for ``IDLE_S_MAX`` after a response, is closed too, so that idle peers
never hold descriptors that callers need. Refusals are counted, and logged at most once in
``LOG_EVERY_S``. Garbage is answered with 400 and counted, without a traceback.
"""

from __future__ import annotations

import asyncio
import logging
import resource
import socket
import ssl
import sys
import time
from collections.abc import Callable
from typing import Any, Final, cast

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.typedefs import Handler

HEAD_S_MAX: Final = 10.0
"""The time from the connection (with TLS: from its handshake) to the end of the request's head."""

IDLE_S_MAX: Final = 30.0
"""Time between a response and the next request, in which the client reads the response."""

HANDSHAKE_S_MAX: Final = 5.0
"""How long a TLS handshake may take."""

END_S_MAX: Final = 1.0
"""What a request may still take at the end: it was waited for, and supervisors wait 30 s in all."""

BACKLOG: Final = 128
LOG_EVERY_S: Final = 60.0

_log: Final = logging.getLogger(__name__)


class ConnectionCounts:
    """What the ports of one process refused."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.refused = 0
        self.timed_out = 0
        self.malformed = 0
        self.abandoned = 0
        self._monotonic = monotonic
        self._logged: dict[str, float] = {}

    def refuse(self, port: str, reason: str) -> None:
        """A connection was closed because of a bound or of its peer."""
        self.refused += 1
        self._tell(port, f"a connection was refused: {reason}; {self.refused} so far")

    def time_out(self, port: str) -> None:
        """A connection was closed because no request came."""
        self.timed_out += 1
        text = f"an idle connection was closed; {self.timed_out} so far"
        self._tell(port, text, level=logging.INFO)

    def abandon(self, port: str) -> None:
        """A request was dropped because its caller had hung up before it was started."""
        self.abandoned += 1
        text = f"a request was dropped: its caller had hung up; {self.abandoned} so far"
        self._tell(port, text, level=logging.INFO)

    def note_malformed(self, port: str, error: BaseException) -> None:
        """Count and log a request that is not valid HTTP."""
        self.malformed += 1
        text = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        self._tell(port, f"a malformed request: {text}; {self.malformed} so far")

    def _tell(self, port: str, text: str, level: int = logging.WARNING) -> None:
        kind, now = f"{port} {text.partition(':')[0].partition(';')[0]}", self._monotonic()
        if now - self._logged.get(kind, -LOG_EVERY_S) >= LOG_EVERY_S:
            self._logged[kind] = now
            _log.log(level, "%s: %s", port, text)


class HttpServer:
    """Serves an application on one port or socket. ``name`` is the port's in logs."""

    def __init__(
        self,
        app: web.Application,
        name: str,
        connections_max: int,
        counts: ConnectionCounts | None = None,
    ) -> None:
        app.middlewares.insert(0, self._note_request)
        self.name = name
        self.counts = counts or ConnectionCounts()
        self.connections_max = connections_max
        self.open_connections: dict[web.RequestHandler, _Connection] = {}
        self._server: asyncio.Server | None = None
        self._runner = web.AppRunner(
            app,
            access_log=None,
            handle_signals=False,
            shutdown_timeout=END_S_MAX,
            # A body is decompressed by ``whole_body``, within its bound.
            auto_decompress=False,
            logger=_HttpLog(self),
        )

    @property
    def port(self) -> int:
        """The TCP port that it has."""
        assert self._server is not None, "asked once it listens"
        return int(self._server.sockets[0].getsockname()[1])

    async def listen(self, address: str, port: int, tls: ssl.SSLContext | None = None) -> None:
        """Listen on TCP; "" is every address, port 0 a free one. Raises OSError."""
        await self._runner.setup()
        limit = HANDSHAKE_S_MAX if tls is not None else None
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            self._connection,
            address or None,
            port,
            ssl=tls,
            backlog=BACKLOG,
            ssl_handshake_timeout=limit,
        )

    async def listen_on(self, listening: socket.socket, backlog: int) -> None:
        """Listen on a unix socket that is bound."""
        await self._runner.setup()
        loop = asyncio.get_running_loop()
        self._server = await loop.create_unix_server(
            self._connection, sock=listening, backlog=backlog
        )

    def close(self) -> None:
        """Accept no further connections; requests in flight continue."""
        if self._server is not None:
            self._server.close()

    async def end(self) -> None:
        """Drop every connection that is left."""
        self.close()
        await self._runner.cleanup()

    def _connection(self) -> _Connection:
        server = self._runner.server
        assert server is not None, "made before it listens"
        return _Connection(self, server())

    @web.middleware
    async def _note_request(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        connection = self.open_connections.get(request.protocol)
        if connection is None:
            return await handler(request)
        connection.begin_request()
        try:
            return await handler(request)
        finally:
            connection.end_request()


class _Connection(asyncio.Protocol):
    """Passes everything on to aiohttp's handler, within the bounds."""

    def __init__(self, server: HttpServer, handler: web.RequestHandler) -> None:
        self._server = server
        self._handler = handler
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._is_busy = False
        self._ends_at = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Not an isinstance check: the transports of uvloop are none of asyncio's classes.
        plain = cast("asyncio.Transport", transport)
        server = self._server
        if len(server.open_connections) >= server.connections_max:
            server.counts.refuse(
                server.name, f"{server.connections_max} are open, as many as are allowed"
            )
            plain.abort()
            return
        self._transport = plain
        server.open_connections[self._handler] = self
        self._handler.connection_made(transport)
        self._allow(HEAD_S_MAX)
        self._check()

    def data_received(self, data: bytes) -> None:
        if self._transport is not None:
            self._handler.data_received(data)

    def eof_received(self) -> None:
        if self._transport is not None:
            self._handler.eof_received()

    def pause_writing(self) -> None:
        self._handler.pause_writing()

    def resume_writing(self) -> None:
        self._handler.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._transport is None:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._server.open_connections.pop(self._handler, None)
        self._handler.connection_lost(exc)

    def begin_request(self) -> None:
        self._is_busy = True

    def end_request(self) -> None:
        self._is_busy = False
        self._allow(IDLE_S_MAX)

    def _allow(self, seconds: float) -> None:
        self._ends_at = asyncio.get_running_loop().time() + seconds

    def _check(self) -> None:
        loop = asyncio.get_running_loop()
        if self._is_busy:
            self._timer = loop.call_later(HEAD_S_MAX, self._check)
        elif loop.time() < self._ends_at:
            self._timer = loop.call_at(self._ends_at, self._check)
        elif self._transport is not None:
            self._server.counts.time_out(self._server.name)
            self._transport.abort()


class _HttpLog(logging.LoggerAdapter[logging.Logger]):
    """aiohttp's log, without a traceback for bytes that are no HTTP."""

    def __init__(self, server: HttpServer) -> None:
        super().__init__(_log, {})
        self._http = server

    def exception(self, msg: object, *args: object, **options: Any) -> None:  # noqa: ANN401
        exc_info = options.get("exc_info", True)
        error = exc_info if isinstance(exc_info, BaseException) else sys.exc_info()[1]
        if isinstance(error, HttpProcessingError):
            self._http.counts.note_malformed(self._http.name, error)
        else:
            super().exception(msg, *args, **options)


def raise_open_files_limit() -> int:
    """Raise the soft limit of open files to the hard one; returns it, -1 for no limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (OSError, ValueError) as error:
            _log.warning("the limit of open files stays at %d: %s", soft, error)
            return soft
    return hard

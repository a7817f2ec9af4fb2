"""An HTTP server whose idle clients cannot use up the file descriptors.

The server closes a connection if ``connections_max`` others are open, if no complete request head
arrives within ``HEAD_S_MAX``, or if no request follows within ``IDLE_S_MAX`` after a response.
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
"""Time from the connection, or from its TLS handshake, to the end of the first request head."""

IDLE_S_MAX: Final = 30.0
"""Time from a response to the next request."""

HANDSHAKE_S_MAX: Final = 5.0

END_S_MAX: Final = 1.0
"""How long ``HttpServer.end`` waits for requests; the agent waits for its own before ``end``."""

BACKLOG: Final = 128
"""The most TCP connections that the kernel queues until the server accepts them."""

LOG_EVERY_S: Final = 60.0
"""A port logs one kind of text at most once in this time."""

_log: Final = logging.getLogger(__name__)


class ConnectionCounts:
    """Counts and logs closed connections and refused requests of all ports of a process."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.refused = 0
        self.timed_out = 0
        self.malformed = 0
        self.abandoned = 0
        self._monotonic = monotonic
        self._logged: dict[str, float] = {}

    def note_refused(self, port: str, reason: str) -> None:
        """Count a refused connection."""
        self.refused += 1
        self._log_rarely(port, f"a connection was refused: {reason}; {self.refused} so far")

    def note_timed_out(self, port: str) -> None:
        """Count a connection that was idle for too long."""
        self.timed_out += 1
        text = f"an idle connection was closed; {self.timed_out} so far"
        self._log_rarely(port, text, level=logging.INFO)

    def note_abandoned(self, port: str) -> None:
        """Count a request whose caller disconnected before the request was started."""
        self.abandoned += 1
        text = f"a request was dropped: its caller had disconnected; {self.abandoned} so far"
        self._log_rarely(port, text, level=logging.INFO)

    def note_malformed(self, port: str, error: BaseException) -> None:
        """Count a request that is not valid HTTP."""
        self.malformed += 1
        text = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        self._log_rarely(port, f"a malformed request: {text}; {self.malformed} so far")

    def _log_rarely(self, port: str, text: str, level: int = logging.WARNING) -> None:
        # Details (after a colon) and counts (after a semicolon) do not make another kind.
        message = f"{port} {text.partition(':')[0].partition(';')[0]}"
        now = self._monotonic()
        if now - self._logged.get(message, -LOG_EVERY_S) >= LOG_EVERY_S:
            self._logged[message] = now
            _log.log(level, "%s: %s", port, text)


class HttpServer:
    """Serves an application on one port or socket; ``name`` is the port's name in logs."""

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
            # ``read_decompressed_body`` decompresses bodies, with a limit.
            auto_decompress=False,
            logger=_HttpLog(self),
        )

    @property
    def port(self) -> int:
        """The TCP port on which the server listens."""
        assert self._server is not None, "the server does not listen yet"
        return int(self._server.sockets[0].getsockname()[1])

    async def listen(self, address: str, port: int, tls: ssl.SSLContext | None = None) -> None:
        """Listen on TCP; address "" means every address, port 0 a free port. Raises OSError."""
        await self._runner.setup()
        handshake_s_max = HANDSHAKE_S_MAX if tls is not None else None
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            self._new_connection,
            address or None,
            port,
            ssl=tls,
            backlog=BACKLOG,
            ssl_handshake_timeout=handshake_s_max,
        )

    async def listen_on(self, listening: socket.socket, backlog: int) -> None:
        """Listen on a bound unix socket."""
        await self._runner.setup()
        loop = asyncio.get_running_loop()
        self._server = await loop.create_unix_server(
            self._new_connection, sock=listening, backlog=backlog
        )

    def close(self) -> None:
        """Accept no further connections; requests in flight continue."""
        if self._server is not None:
            self._server.close()

    async def end(self) -> None:
        """Stop listening, and close the remaining connections."""
        self.close()
        await self._runner.cleanup()

    def _new_connection(self) -> _Connection:
        server = self._runner.server
        assert server is not None, "AppRunner.setup has created the server"
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
    """Passes data to aiohttp's handler; closes the connection at the limits of the server."""

    def __init__(self, server: HttpServer, handler: web.RequestHandler) -> None:
        self._server = server
        self._handler = handler
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._is_busy = False
        self._idle_until = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Not an isinstance check: uvloop's transports do not inherit from asyncio's.
        tcp_transport = cast("asyncio.Transport", transport)
        server = self._server
        if len(server.open_connections) >= server.connections_max:
            server.counts.note_refused(
                server.name, f"{server.connections_max} are open, which is the maximum"
            )
            tcp_transport.abort()
            return
        self._transport = tcp_transport
        server.open_connections[self._handler] = self
        self._handler.connection_made(transport)
        self._allow_idle(HEAD_S_MAX)
        self._check_idle()

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
        self._allow_idle(IDLE_S_MAX)

    def _allow_idle(self, seconds: float) -> None:
        self._idle_until = asyncio.get_running_loop().time() + seconds

    def _check_idle(self) -> None:
        loop = asyncio.get_running_loop()
        if self._is_busy:
            self._timer = loop.call_later(HEAD_S_MAX, self._check_idle)
        elif loop.time() < self._idle_until:
            self._timer = loop.call_at(self._idle_until, self._check_idle)
        elif self._transport is not None:
            self._server.counts.note_timed_out(self._server.name)
            self._transport.abort()


class _HttpLog(logging.LoggerAdapter[logging.Logger]):
    """aiohttp's log, without tracebacks for requests that are not HTTP."""

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
    """Raise the soft limit of open files to the hard limit; return the limit (-1: no limit)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (OSError, ValueError) as error:
            _log.warning("the limit of open files stays at %d: %s", soft, error)
            return soft
    return hard

"""An HTTP client that reuses connections, because TLS handshakes take milliseconds of CPU time."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from http.client import BadStatusLine, HTTPConnection, HTTPSConnection
from typing import NamedTuple

STALE_CONNECTION_ERRORS = (ConnectionError, BadStatusLine, ssl.SSLError)
"""Failures of an idle connection that the server has closed."""


class HttpResponse(NamedTuple):
    status: int
    body: bytes
    warnings: tuple[str, ...]


class HttpClient:
    """A client of one server, for any number of threads.

    If the server has closed an idle connection, the request is repeated over a new connection.
    Raises OSError if a connection fails.
    """

    def __init__(
        self, address: str, port: int, tls: ssl.SSLContext | None, timeout_s: float
    ) -> None:
        self._server = (address, port)
        self._tls = tls
        self._timeout_s = timeout_s
        self._idle: list[HTTPConnection] = []

    def send(
        self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]
    ) -> HttpResponse:
        try:
            connection = self._idle.pop()
        except IndexError:
            pass
        else:
            try:
                return self._exchange(connection, method, path, body, headers)
            except STALE_CONNECTION_ERRORS:
                pass
        return self._exchange(self._connection(), method, path, body, headers)

    def close(self) -> None:
        while self._idle:
            self._idle.pop().close()

    def _connection(self) -> HTTPConnection:
        address, port = self._server
        if self._tls is None:
            return HTTPConnection(address, port, timeout=self._timeout_s)
        return HTTPSConnection(address, port, timeout=self._timeout_s, context=self._tls)

    def _exchange(
        self,
        connection: HTTPConnection,
        method: str,
        path: str,
        body: bytes | None,
        headers: Mapping[str, str],
    ) -> HttpResponse:
        try:
            connection.request(method, path, body, dict(headers))
            response = connection.getresponse()
            warnings = tuple(response.headers.get_all("Warning", ()))
            result = HttpResponse(response.status, response.read(), warnings)
        except BaseException:
            connection.close()
            raise
        self._idle.append(connection)
        return result

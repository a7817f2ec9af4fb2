"""Sends HTTP requests to one API server with one identity; does not interpret the responses."""

from __future__ import annotations

import asyncio
import socket
from typing import Final
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
import msgspec

from core.errors import BadInput
from core.kubernetes.credentials import ClientTls, access_of
from core.kubernetes.kubeconfig import ClusterAccess
from core.kubernetes.tokens import NoAccess
from core.process import tracing

CONNECTIONS_MAX: Final = 100
"""Each watch uses one connection."""

READ_BYTES: Final = 2**21
"""A watch sends each object in one line, which may have 1.5 MB."""

CLOSE_S: Final = 0.1

DEAD_PEER_S: Final = 10
"""A connection without an acknowledged packet for this time is closed."""

# Keep-alive: _PROBE_AFTER_S + _PROBES * _PROBE_EVERY_S = DEAD_PEER_S.
_PROBE_AFTER_S: Final = 4
_PROBE_EVERY_S: Final = 2
_PROBES: Final = 3


def tcp_socket(address: aiohttp.AddrInfoType) -> socket.socket:
    """A TCP socket that detects a dead peer within ``DEAD_PEER_S``, also without traffic."""
    family, kind, protocol, _, _ = address
    new_socket = socket.socket(family, kind, protocol)
    new_socket.setblocking(False)
    new_socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (
        (socket.TCP_KEEPIDLE, _PROBE_AFTER_S),
        (socket.TCP_KEEPINTVL, _PROBE_EVERY_S),
        (socket.TCP_KEEPCNT, _PROBES),
        (socket.TCP_USER_TIMEOUT, DEAD_PEER_S * 1_000),
    ):
        new_socket.setsockopt(socket.IPPROTO_TCP, option, value)
    return new_socket


class Connection:
    """A session with an API server."""

    def __init__(self, access: ClusterAccess, tls: ClientTls) -> None:
        self._access = access
        self._tls = tls
        self._session = aiohttp.ClientSession(
            proxy=access.proxy or _proxy_of(access.server),
            connector=aiohttp.TCPConnector(
                limit=CONNECTIONS_MAX,
                socket_factory=tcp_socket,
            ),
            read_bufsize=READ_BYTES,
            # True would read .netrc and the proxy variables before every request.
            trust_env=False,
        )

    @property
    def server(self) -> str:
        """The server's URL."""
        return self._access.server

    async def send(
        self,
        method: str,
        path: str,
        body: object,
        content: str,
        limits: aiohttp.ClientTimeout,
        head_s_max: float,
        accept: str = "application/json",
    ) -> aiohttp.ClientResponse:
        """Send a request; return the response before its body is read.

        ``content``: the content type of ``body``. ``head_s_max``: limits the time from the
        request to the head of the response; a run of an exec plugin before the request does not
        count. Raises NoAccess, TimeoutError and aiohttp's errors.
        """
        headers = {"Accept": accept, "Content-Type": content, **tracing.headers()}
        if authorization := await self._access.token.authorization():
            headers["Authorization"] = authorization
        # With a new context, aiohttp opens a new connection, which uses the new certificate.
        tls = await self._tls.context()
        async with asyncio.timeout(head_s_max):
            return await self._session.request(
                method,
                self._access.server + path,
                data=None if body is None else msgspec.json.encode(body),
                headers=headers,
                server_hostname=self._access.tls.server_name or None,
                ssl=tls,
                timeout=limits,
            )

    async def close(self) -> None:
        """Close every connection."""
        await self._session.close()
        # TLS connections end after the session's ``close`` returns. Without a pause, asyncio warns.
        await asyncio.sleep(CLOSE_S)


async def open_connection(kubeconfig: str, context: str = "") -> Connection:
    """Open a session; no request is sent. Arguments and errors are those of ``access_of``."""
    access = await access_of(kubeconfig, context)
    tls = ClientTls(access)
    try:
        await tls.context()
    except NoAccess as error:
        raise BadInput(
            str(error),
            subject="kubeconfig",
            remedy="correct the certificates and the key in the kubeconfig or service account",
        ) from None
    return Connection(access, tls)


def _proxy_of(url: str) -> str | None:
    """The proxy that the environment sets for this server; None for no proxy."""
    server = urlsplit(url)
    if server.hostname and proxy_bypass(server.hostname):
        return None
    return getproxies().get(server.scheme)

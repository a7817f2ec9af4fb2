"""One API server with one identity: requests as bytes and headers, no meaning."""

from __future__ import annotations

import asyncio
import socket
import ssl
from typing import Final
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
import msgspec

from core.errors import BadInput
from core.kubernetes.credentials import access_of, tls_context
from core.kubernetes.kubeconfig import ClusterAccess
from core.process import tracing

CONNECTIONS_MAX: Final = 100
"""The connections of one session; a watch holds one."""

READ_BYTES: Final = 2**21
"""Buffered of an answer or a watch: one object of the API may have 1.5 MB, on one line."""

FAREWELL_S: Final = 0.1
"""What a closed connection gets to end in."""

DEAD_PEER_S: Final = 10
"""A connection is closed when the peer acknowledges nothing for this time."""

_PROBE_AFTER_S: Final = 4
_PROBE_EVERY_S: Final = 2
_PROBES: Final = 3


def tcp_socket(address: aiohttp.AddrInfoType) -> socket.socket:
    """A TCP socket that detects a dead peer within ``DEAD_PEER_S``, idle or not."""
    family, kind, protocol, _, _ = address
    made = socket.socket(family, kind, protocol)
    made.setblocking(False)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (
        (socket.TCP_KEEPIDLE, _PROBE_AFTER_S),
        (socket.TCP_KEEPINTVL, _PROBE_EVERY_S),
        (socket.TCP_KEEPCNT, _PROBES),
        (socket.TCP_USER_TIMEOUT, DEAD_PEER_S * 1_000),
    ):
        made.setsockopt(socket.IPPROTO_TCP, option, value)
    return made


class Connection:
    """A session with the server of ``access``; ``context`` None: its URL has no TLS."""

    def __init__(self, access: ClusterAccess, context: ssl.SSLContext | None) -> None:
        self._access = access
        self._session = aiohttp.ClientSession(
            proxy=access.proxy or _proxy_of(access.server),
            connector=aiohttp.TCPConnector(
                limit=CONNECTIONS_MAX,
                ssl=True if context is None else context,
                socket_factory=tcp_socket,
            ),
            read_bufsize=READ_BYTES,
            # Otherwise it reads .netrc in a thread, and proxies before every request.
            trust_env=False,
        )

    @property
    def server(self) -> str:
        """The URL of the server."""
        return self._access.server

    async def send(
        self,
        method: str,
        path: str,
        body: object,
        content: str,
        limits: aiohttp.ClientTimeout,
        accept: str = "application/json",
    ) -> aiohttp.ClientResponse:
        """The answer, its body unread; ``path`` with its query. Raises what aiohttp raises."""
        headers = {"Accept": accept, "Content-Type": content, **tracing.headers()}
        if authorization := await self._access.token.authorization():
            headers["Authorization"] = authorization
        return await self._session.request(
            method,
            self._access.server + path,
            data=None if body is None else msgspec.json.encode(body),
            headers=headers,
            server_hostname=self._access.tls.server_name or None,
            timeout=limits,
        )

    async def close(self) -> None:
        """Close every connection."""
        await self._session.close()
        # TLS transports end in the loop's own time, and a loop that ends first complains of them.
        await asyncio.sleep(FAREWELL_S)


async def open_connection(kubeconfig: str, context: str = "") -> Connection:
    """Load the credentials; "" takes those of the Pod this runs in. Nothing is sent yet.

    ``context`` of the kubeconfig, by default the one that it calls its current one.
    Raises BadInput without any that can be used.
    """
    access = await access_of(kubeconfig, context)
    if not access.server.startswith("https:"):
        return Connection(access, None)
    try:
        tls = await asyncio.to_thread(tls_context, access.tls)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise BadInput(f"a certificate cannot be used: {error}", subject="kubeconfig") from None
    return Connection(access, tls)


def _proxy_of(url: str) -> str | None:
    """The proxy that the environment names for this server (``HTTPS_PROXY``, ``NO_PROXY``)."""
    server = urlsplit(url)
    if server.hostname and proxy_bypass(server.hostname):
        return None
    return getproxies().get(server.scheme)

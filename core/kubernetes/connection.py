"""One API server with one identity: requests as bytes and headers, no meaning."""

from __future__ import annotations

import asyncio
import socket
from typing import Any, Final

import aiohttp
import msgspec

from core.errors import BadInput

FAREWELL_S: Final = 0.1
"""What a closed connection gets to end in."""

DEAD_PEER_S: Final = 10
"""A peer that acknowledges nothing for this long is gone, and the connection with it."""

_PROBE_AFTER_S: Final = 4
_PROBE_EVERY_S: Final = 2
_PROBES: Final = 3


def tcp_socket(address: aiohttp.AddrInfoType) -> socket.socket:
    """A TCP socket that notices within ``DEAD_PEER_S`` that its peer is gone, idle or not."""
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
    """Around a client of the ``kubernetes`` package, which knows how to prove who we are."""

    def __init__(self, client: Any) -> None:  # noqa: ANN401  # the package is not typed for us
        self._client = client

    async def send(
        self, method: str, path: str, body: object, content: str, limits: aiohttp.ClientTimeout
    ) -> aiohttp.ClientResponse:
        """The answer, its body unread; ``path`` with its query. Raises what aiohttp raises."""
        client, settings = self._client, self._client.configuration
        headers = {"Accept": "application/json", "Content-Type": content}
        await client.update_params_for_auth(headers, [], ["BearerToken"], path, method, body)
        # Not by the package's own call: it walks through every body, and encodes it slowly.
        session: aiohttp.ClientSession = client.rest_client.pool_manager
        return await session.request(
            method,
            settings.host + path,
            data=None if body is None else msgspec.json.encode(body),
            headers=headers,
            server_hostname=settings.tls_server_name,
            timeout=limits,
        )

    async def close(self) -> None:
        """Close every connection."""
        await self._client.close()
        # TLS transports end in the loop's own time, and a loop that ends first complains of them.
        await asyncio.sleep(FAREWELL_S)


async def open_connection(kubeconfig: str, context: str = "") -> Connection:
    """Load the credentials; "" takes those of the Pod this runs in. Nothing is sent yet.

    ``context`` of the kubeconfig, by default the one that it calls its current one.
    Raises BadInput without any, and where the extra ``kubernetes`` is not installed.
    """
    try:
        from core.kubernetes.credentials import client_for  # noqa: PLC0415  # the package is an extra
    except ImportError:
        message = "Kubernetes is switched on and the package kubernetes is not installed"
        remedy = "pip install 'orbweaver[kubernetes]'"
        raise BadInput(message, subject="kubernetes", remedy=remedy) from None
    return Connection(await client_for(kubeconfig, context))

"""A TCP port that serves an HTTP application."""

from __future__ import annotations

import errno
import ssl
from collections.abc import Sequence
from typing import Final

from aiohttp import web

from core.errors import BadInput
from core.process.connections import ConnectionCounts, HttpServer
from core.process.supervision import HealthCheck

HEALTH_CONNECTIONS_MAX: Final = 128
METRICS_CONNECTIONS_MAX: Final = 64


class TcpPort:
    """One listening port with at most ``connections_max`` open connections."""

    def __init__(
        self,
        app: web.Application,
        name: str,
        connections_max: int,
        counts: ConnectionCounts | None = None,
    ) -> None:
        self._server = HttpServer(app, name, connections_max, counts)

    async def open(
        self, address: str, port: int, setting: str, tls: ssl.SSLContext | None = None
    ) -> None:
        """Listen; port 0 means a free port. Raises BadInput, whose ``subject`` is ``setting``."""
        try:
            await self._server.listen(address, port, tls)
        except OSError as error:
            raise BadInput(
                f"cannot listen on port {port} of {address or 'all addresses'}: {error.strerror}",
                subject=setting,
                remedy=_remedy(error, setting),
            ) from error

    @property
    def port(self) -> int:
        """The port number."""
        return self._server.port

    async def close(self) -> None:
        """Stop listening and close the connections."""
        await self._server.end()


def _remedy(error: OSError, setting: str) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"stop the process that uses this port, or choose another port in {setting}"
    if error.errno == errno.EADDRNOTAVAIL:
        return "use an address of this machine"
    if error.errno == errno.EACCES:
        return (
            f"choose a port from 1024 on in {setting}, or add the capability CAP_NET_BIND_SERVICE"
        )
    return f"correct {setting}"


def checks_response(name: str, checks: Sequence[HealthCheck]) -> web.Response:
    """A response with one line for each check, in the format of Kubernetes components."""
    lines = [
        f"[-]{check.name} failed: {check.fault}" if check.fault else f"[+]{check.name} ok"
        for check in checks
    ]
    passed = not any(check.fault for check in checks)
    lines.append(f"{name} check {'passed' if passed else 'failed'}")
    return web.Response(status=200 if passed else 500, text="\n".join(lines) + "\n")

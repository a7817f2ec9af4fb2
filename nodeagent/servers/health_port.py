"""The agent's health port (docs/reference/configuration.md, "Ports and health paths").

Liveness fails only if another process has taken over the agent's writer: then a restart helps. An
agent that waits for etcd is alive, but not ready.
"""

from __future__ import annotations

from typing import Final

from aiohttp import web

from core.process.connections import ConnectionCounts
from core.process.supervision import HealthCheck
from core.process.tcp_port import HEALTH_CONNECTIONS_MAX, TcpPort, checks_response
from nodeagent.health import AgentHealth
from nodeagent.servers.http_api import BASE_PATH, json_text, not_implemented

_ANY_PATH: Final = "/{path:.*}"


def health_port(health: AgentHealth, counts: ConnectionCounts | None = None) -> TcpPort:
    """The port with the health endpoints."""

    async def startup(_: web.Request) -> web.Response:
        return web.Response(status=200 if health.started else 500)

    async def readiness(_: web.Request) -> web.Response:
        fault = await health.readiness_fault()
        return web.Response() if fault is None else json_text(500, str(fault))

    async def liveness(_: web.Request) -> web.Response:
        return web.Response() if health.fenced is None else json_text(500, str(health.fenced))

    async def livez(_: web.Request) -> web.Response:
        return checks_response("livez", [HealthCheck("fence", health.fenced)])

    async def readyz(_: web.Request) -> web.Response:
        return checks_response("readyz", await health.checks())

    app = web.Application()
    app.router.add_get(f"{BASE_PATH}/runtime/startup", startup)
    app.router.add_get(f"{BASE_PATH}/runtime/readiness", readiness)
    app.router.add_get(f"{BASE_PATH}/runtime/liveness", liveness)
    app.router.add_get("/livez", livez)
    app.router.add_get("/readyz", readyz)
    app.router.add_route("*", f"{BASE_PATH}{_ANY_PATH}", not_implemented)
    return TcpPort(app, "health port", HEALTH_CONNECTIONS_MAX, counts)

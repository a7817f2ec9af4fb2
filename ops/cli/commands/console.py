"""``orbctl console``: serves the web console on loopback."""

from __future__ import annotations

import asyncio
import secrets
import signal
from typing import TYPE_CHECKING, Annotated, Final

import typer

from core.audit.indexed_log import IndexedLog
from core.domain.validation.common_rules import counted
from ops.cli.action_runner import perform

if TYPE_CHECKING:
    from ops.cli.session import ClusterSession

PORT: Final = 5728
LOOPBACK: Final = "127.0.0.1"
TOKEN_BYTES: Final = 24
"""The token keeps other users of this machine from changing executions."""


def console(
    context: typer.Context,
    port: Annotated[
        int, typer.Option(min=0, max=65_535, help="port on loopback; 0 for a free one")
    ] = PORT,
    *,
    workflow_actions: Annotated[
        bool,
        typer.Option(
            "--workflow-actions",
            help="let the pages signal executions and retry paused ones; prints a token that the"
            " console then needs",
        ),
    ] = False,
) -> None:
    """Serve the console for a browser on this machine.

    The console shows the present state and past states. It runs until interrupted. Only this
    machine can connect. It writes nothing, except with --workflow-actions.

    Examples:
      orbctl console
      orbctl console --port 0
      orbctl console --workflow-actions
    """

    async def action(session: ClusterSession) -> None:
        await _serve(session, port, has_actions=workflow_actions)

    perform(context, action)


async def _serve(session: ClusterSession, port: int, *, has_actions: bool) -> None:
    # aiohttp and the workflow engine are slow to import.
    from core.process.tcp_port import TcpPort  # noqa: PLC0415
    from ops.console.access import OpenAccess, SecretAccess  # noqa: PLC0415
    from ops.console.console_data import ConsoleSource  # noqa: PLC0415
    from ops.console.web_server import (  # noqa: PLC0415
        CONNECTIONS_MAX,
        LOOPBACK_HOSTS,
        ConsoleServer,
    )
    from ops.console.workflow_actions import WorkflowActions  # noqa: PLC0415

    settings = session.settings
    source = ConsoleSource(
        session.store,
        session.keys,
        settings.archive,
        cluster=settings.cluster,
        now_ms=session.now_ms,
    )
    token = secrets.token_urlsafe(TOKEN_BYTES) if has_actions else ""
    access = SecretAccess(token, session.actor) if has_actions else OpenAccess()
    actions = WorkflowActions(session.store, session.keys, access) if has_actions else None
    server = ConsoleServer(source, access, actions, hosts=LOOPBACK_HOSTS)
    tcp_port = TcpPort(server.app(), "console", CONNECTIONS_MAX)
    try:
        await tcp_port.open(LOOPBACK, port, "--port")
        print(f"console: http://{LOOPBACK}:{tcp_port.port}/", flush=True)
        if token:
            print(f"token: {token}", flush=True)
        await _build_index(source.log)
        await _wait_for_signal()
    finally:
        await server.close()
        await tcp_port.close()


async def _build_index(log: IndexedLog) -> None:
    index = await log.newest()
    print(f"indexed {counted(index.clock.events, 'event')}; Ctrl-C ends the console", flush=True)


async def _wait_for_signal() -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await stop.wait()

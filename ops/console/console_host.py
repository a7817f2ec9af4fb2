"""Serves the console in every controller.

The event log is read only when a page needs the log.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Final

from core.allocation.cooldown import COOL_DOWN_S
from core.errors import BadInput
from core.eventstore.keys import Keys
from core.eventstore.kv import KeyValueStore
from core.kubernetes.api_client import Api
from core.kubernetes.http_connection import open_connection
from core.process.connections import ConnectionCounts
from core.process.tcp_port import TcpPort
from core.process.teardown import Teardown
from ops.console.access import ACTIONS_PATH, ConsoleAccess, OpenAccess, ReviewedAccess
from ops.console.console_data import ConsoleSource
from ops.console.console_settings import AUTH_SETTING, PORT_SETTING, ConsoleSettings
from ops.console.web_server import CONNECTIONS_MAX, LOOPBACK_HOSTS, ConsoleServer
from ops.console.workflow_actions import WorkflowActions
from ops.kubernetes.certificates.served_certificate import ServedCertificate

CERTIFICATE_POLL_S: Final = 1.0

_log: Final = logging.getLogger(__name__)


class ConsoleHost:
    """Serves the console. ``port`` None: the port is closed."""

    def __init__(
        self,
        settings: ConsoleSettings,
        store: KeyValueStore,
        keys: Keys,
        archive: Path,
        *,
        cluster: str,
        cool_down_s: float = COOL_DOWN_S,
        connections: ConnectionCounts | None = None,
    ) -> None:
        self.port: int | None = None
        self._settings = settings
        self._source = ConsoleSource(store, keys, archive, cluster=cluster, cool_down_s=cool_down_s)
        self._connections = connections
        self._store = store
        self._keys = keys

    async def run(self) -> None:
        """Serve until cancelled.

        Raises BadInput if credentials, certificate or port cannot be used.
        """
        settings, opened = self._settings, Teardown()
        try:
            # Against DNS rebinding: a local console without tokens accepts only these host names.
            is_local = settings.auth == "none" and settings.address in LOOPBACK_HOSTS
            hosts = LOOPBACK_HOSTS if is_local else None
            access, actions = await self._access(opened)
            server = ConsoleServer(self._source, access, actions, hosts=hosts)
            port = TcpPort(server.app(), "console", CONNECTIONS_MAX, self._connections)
            opened.push("the console's port", port.close)
            opened.push("the console's streams", server.close)
            certificate = await self._certificate()
            tls = certificate.context if certificate is not None else None
            await port.open(settings.address, settings.port, PORT_SETTING, tls)
            self.port = port.port
            _log.info("serving the console", extra={"fields": {"port": port.port}})
            if certificate is not None:
                await certificate.reload_on_change()
            await asyncio.Event().wait()
        finally:
            self.port = None
            await opened.close()

    async def _access(self, opened: Teardown) -> tuple[ConsoleAccess, WorkflowActions | None]:
        settings = self._settings
        if settings.auth == "none":
            return OpenAccess(), None
        if settings.kubeconfig is None:
            raise BadInput(
                "tokens cannot be reviewed without Kubernetes",
                subject=AUTH_SETTING,
                remedy=f"set {AUTH_SETTING}=none, and let only trusted hosts reach the port",
            )
        api = Api(await open_connection(settings.kubeconfig))
        opened.push("the console's API client", api.close)
        if not settings.workflow_actions:
            return ReviewedAccess(api), None
        access = ReviewedAccess(api, ACTIONS_PATH, "post")
        return ReviewedAccess(api), WorkflowActions(self._store, self._keys, access)

    async def _certificate(self) -> ServedCertificate | None:
        """Wait until the certificate exists, and load it; None without TLS."""
        files = self._settings.files
        if files is None:
            return None
        while not all(path.exists() for path in files):  # noqa: ASYNC110  # polled: no file events
            await asyncio.sleep(CERTIFICATE_POLL_S)  # another task of this controller writes them
        certificate = ServedCertificate(files, "console")
        certificate.load()
        return certificate

"""The agent's life: the order in which its parts start, and the order in which they end.

Start: servers (callers get "not ready" rather than a refused connection), writer, view; ready when
all are there. Each part is closed in the reverse order of its opening, whatever fails at start or
stop: no new callers, those inside finish within ``DRAIN_S_MAX``, then view, writer, telemetry. It
decides nothing.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from core.domain.addresses.ip_address import Family
from core.errors import DatapathError, OutcomeUnknown, StoreUnavailable, WriterFenced
from core.eventstore.kv import KeyValueStore
from core.eventstore.retry_policies import waiting_for_store
from core.process.tcp_port import TcpPort
from core.process.teardown import Teardown
from nodeagent.clusterip.clusterip_setup import ClusterIps
from nodeagent.clusterip.sources import RecordSource, ServiceSource
from nodeagent.composition import STANDALONE, AgentParts, AgentSources, compose
from nodeagent.servers.sockets import BACKLOG, ListeningSocket
from nodeagent.servers.tcp_ports import health_port, metrics_port
from nodeagent.settings.sysctls import tune
from nodeagent.settings.values import Settings
from nodeagent.telemetry.tracing import Tracer

if TYPE_CHECKING:
    from nodeagent.rdma.rdma_exposition import RdmaExposition
    from nodeagent.rdma.values import Tenants

DRAIN_S_MAX: Final = 20.0
"""How long callers inside may take after SIGTERM: below the 30 s that supervisors wait."""

_log: Final = logging.getLogger(__name__)


class Agent:
    """One node agent over one store. Make it inside the event loop that runs it.

    ``ended`` is set when it cannot go on by itself, ``parts.health.fenced`` says why then.
    """

    def __init__(
        self,
        settings: Settings,
        store: KeyValueStore,
        *,
        sources: AgentSources = STANDALONE,
        services: ServiceSource | None = None,
        tenants: Callable[[], Tenants] | None = None,
        tracer: Tracer | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.settings = settings
        self.ended = asyncio.Event()
        self.parts: AgentParts = compose(
            settings, store, tracer, sources, self._on_fenced, monotonic
        )
        self._opened = Teardown()
        self._close_parts_at_the_end()
        self.health_port: TcpPort | None = None
        self.metrics_port: TcpPort | None = None
        self._tenants = tenants
        self._services = services or RecordSource(self.parts.view, settings.node_name)

    async def start(self) -> None:
        """Open the doors, then become ready, however long etcd takes.

        What was opened is closed again if any of it fails. Raises BadInput (a socket or port that
        cannot be had), DatapathError (a sysctl that cannot be set, a kernel too old for what is
        switched on), WriterFenced, StoreRejected.
        """
        try:
            await self._prepare_node()
            self._serve_cluster_ips()
            self._offer_devices()
            await self._sweep()
            await self.open_servers()
            await self.become_ready()
        except BaseException:
            await self.stop()
            raise

    async def open_servers(self) -> None:
        """Listen. Raises BadInput."""
        settings, parts, opened = self.settings, self.parts, self._opened
        parts.plugin_log.start()
        address = settings.listen_address
        self.health_port = health_port(parts.health, parts.connections)
        opened.push("the health port", self.health_port.close)
        await self.health_port.open(address, settings.health_port, "SPIDERPOOL_HEALTH_PORT")
        if settings.metrics_enabled:
            await self._open_metrics(address)
        opened.push("calls on the framed socket", parts.framed.end)
        opened.push("calls on the HTTP socket", parts.http.end)
        opened.push("requests under way", self._drain)
        framed = self._listen(settings.framed_socket_path)
        opened.push("the framed socket", parts.framed.close)
        await parts.framed.open(framed.socket, BACKLOG)
        http = self._listen(settings.socket_path)
        opened.push("the HTTP socket", parts.http.close)
        await parts.http.open(http.socket, BACKLOG, parts.connections)
        opened.push("readiness", self._end_readiness)

    async def become_ready(self) -> None:
        """Take the writer's name over and load the view. Raises WriterFenced, StoreRejected."""
        while not self.parts.health.started:
            try:
                async for attempt in waiting_for_store():
                    with attempt:
                        await self._become_ready()
            except (StoreUnavailable, OutcomeUnknown) as error:
                _log.warning("waiting for etcd: %s", error)

    async def stop(self) -> None:
        """Drain and close everything but the store, which belongs to whoever made it.

        A step that fails is logged, and everything else is closed; ``stop_failures`` names it.
        """
        self.parts.health.stopping = True
        await self._opened.close()

    @property
    def stop_failures(self) -> list[str]:
        """What could not be closed."""
        return self._opened.failures

    def _close_parts_at_the_end(self) -> None:
        """What exists before anything is started."""
        parts, opened = self.parts, self._opened
        opened.push_blocking("the plugin log", parts.plugin_log.close)
        if parts.tracer is not None:
            opened.push_blocking("the tracer", parts.tracer.close)
        opened.push("the writer", parts.writer.close)
        opened.push("the configuration view", parts.view.close)
        opened.push_blocking("the namespace thread", parts.executor.close)
        opened.push_blocking("the coordinator's workers", parts.coordinator_handler.close)
        opened.push("the detector", parts.detector.close)
        opened.push("supervised tasks", parts.supervisor.close)

    def _end_readiness(self) -> None:
        self.parts.health.stopping = True

    async def _drain(self) -> None:
        if not await self.parts.gate.drain(DRAIN_S_MAX):
            _log.warning("%d requests did not end in time", self.parts.gate.under_way)

    async def _sweep(self) -> None:
        """What cannot be read keeps no Pod from its addresses: the next start cleans it up."""
        try:
            swept = await self.parts.coordinator_handler.sweep()
        except DatapathError as error:
            _log.warning("stale attachments are not cleaned up: %s", error)
            return
        if swept:
            _log.info("cleaned up %d stale attachments left from before the restart", swept)

    def _serve_cluster_ips(self) -> None:
        parts, settings = self.parts, self.settings.cluster_ip
        serving = ClusterIps.joined(settings, self._services, parts.metrics, parts.supervisor)
        if serving is not None:
            self._opened.push("cluster IPs", serving.close)

    def _offer_devices(self) -> None:
        """Before this agent is ready: after a boot kubelet starts no Pod whose slot it lacks."""
        settings, parts = self.settings.devices, self.parts
        if settings is None:
            return
        from nodeagent.devices.device_setup import Devices  # noqa: PLC0415  # costs only who offers

        known = (parts.facts, parts.executor, parts.metrics, parts.supervisor)
        self._opened.push("the device plugin", Devices.joined(settings, *known).close)

    async def _prepare_node(self) -> None:
        if not self.settings.tune_sysctls:
            return
        enabled = self.settings.selection
        wanted: tuple[tuple[Family, bool], ...] = (
            (4, enabled.ipv4_enabled),
            (6, enabled.ipv6_enabled),
        )
        families = tuple(family for family, is_wanted in wanted if is_wanted)
        executor = self.parts.executor
        await asyncio.to_thread(tune, executor, executor.home, families)

    async def _open_metrics(self, address: str) -> None:
        # Here, because OpenTelemetry costs a tenth of a second of the start.
        from nodeagent.telemetry.exposition import CONTENT_TYPE, Exposition  # noqa: PLC0415

        rdma = self._rdma_exposition()
        exposition = Exposition(self.parts.metrics, () if rdma is None else (rdma,))
        self._opened.push_blocking("metrics", exposition.close)
        if rdma is not None:
            self._opened.push("RDMA counters", rdma.close)
        self.metrics_port = metrics_port(exposition.text, CONTENT_TYPE, self.parts.connections)
        self._opened.push("the metrics port", self.metrics_port.close)
        name = "SPIDERPOOL_METRIC_HTTP_PORT"
        await self.metrics_port.open(address, self.settings.metrics_port, name)

    def _rdma_exposition(self) -> RdmaExposition | None:
        if not self.settings.rdma_metrics_enabled:
            return None
        from nodeagent.rdma.rdma_exposition import RdmaExposition  # noqa: PLC0415  # costs only who asks

        node, parts = self.settings.node_name, self.parts
        return RdmaExposition.over(node, parts.executor, self._tenants, parts.metrics)

    async def _become_ready(self) -> None:
        parts = self.parts
        if not parts.writer.epoch:
            await parts.writer.open()
        await parts.view.start()
        parts.health.started = True
        fields = {"node": self.settings.node_name, "epoch": parts.writer.epoch}
        _log.info("ready", extra={"fields": fields})

    def _listen(self, path: str) -> ListeningSocket:
        listening = ListeningSocket(path)
        self._opened.push(path, listening.remove)
        return listening

    def _on_fenced(self, error: WriterFenced) -> None:
        """Another process has this node's name: end, rather than fail every request."""
        self.parts.health.fenced = error
        self.ended.set()

"""The agent's life: the order in which its parts start, and the order in which they end.

Start: doors (callers hear "not ready" rather than "refused"), writer, view; ready when all are
there. End: no new callers, those inside finish within ``DRAIN_S_MAX``, then view, writer,
telemetry. It decides nothing.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from core.domain.addresses import Family
from core.errors import OutcomeUnknown, StoreUnavailable, WriterFenced
from core.store.kv import KeyValueStore
from core.store.retrying import waiting_for_store
from nodeagent.clusterip.joining import ClusterIps
from nodeagent.clusterip.sources import RecordSource, Source
from nodeagent.composition import Parts, Sources, compose
from nodeagent.doors.sockets import BACKLOG, ListeningSocket
from nodeagent.doors.tcp_port import TcpPort
from nodeagent.doors.tcp_ports import health_port, metrics_port
from nodeagent.facts import FactsSource
from nodeagent.nodeprep.sysctls import tune
from nodeagent.settings.values import Settings
from nodeagent.telemetry.tracing import Tracer

if TYPE_CHECKING:
    from nodeagent.devices.joining import Devices
    from nodeagent.rdma.exporting import RdmaExposition
    from nodeagent.rdma.values import Tenants
    from nodeagent.telemetry.exposition import Exposition
    from nodeagent.verbs.binding import Networks

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
        facts: FactsSource | None = None,
        services: Source | None = None,
        networks: Networks | None = None,
        tenants: Callable[[], Tenants] | None = None,
        tracer: Tracer | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.settings = settings
        self.ended = asyncio.Event()
        self.parts: Parts = compose(
            settings, store, tracer, Sources(facts, networks), self._on_fenced, monotonic
        )
        self._sockets: list[ListeningSocket] = []
        self.health_port: TcpPort | None = None
        self.metrics_port: TcpPort | None = None
        self._exposition: Exposition | None = None
        self._rdma: RdmaExposition | None = None
        self._tenants = tenants
        self._services = services or RecordSource(self.parts.view, settings.node_name)
        self._cluster_ips: ClusterIps | None = None
        self._devices: Devices | None = None

    async def start(self) -> None:
        """Open the doors, then become ready, however long etcd takes.

        Raises BadInput (a socket or port that cannot be had), DatapathError (a sysctl that cannot
        be set, a kernel too old for what is switched on), WriterFenced, StoreRejected.
        """
        await self._prepare_node()
        self._cluster_ips = ClusterIps.joined(
            self.settings.cluster_ip, self._services, self.parts.metrics
        )
        self._offer_devices()
        swept = await self.parts.coordinating.sweep()
        if swept:
            _log.info("%d NICs that their Pods had lost meanwhile were taken back", swept)
        await self.open_doors()
        await self.become_ready()

    async def open_doors(self) -> None:
        """Listen. Raises BadInput."""
        settings, parts = self.settings, self.parts
        parts.plugin_log.start()
        address = settings.listen_address
        self.health_port = health_port(parts.health)
        await self.health_port.open(address, settings.health_port, "SPIDERPOOL_HEALTH_PORT")
        if settings.metrics_enabled:
            await self._open_metrics(address)
        await parts.framed.open(self._listen(settings.framed_socket_path).socket, BACKLOG)
        await parts.http.open(self._listen(settings.socket_path).socket, BACKLOG)

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
        """Drain and close everything but the store, which belongs to whoever made it."""
        parts = self.parts
        parts.health.stopping = True
        parts.framed.close()
        await parts.http.close()
        for each in self._sockets:
            each.remove()
        if not await parts.gate.drain(DRAIN_S_MAX):
            _log.warning("%d requests did not end in time", parts.gate.under_way)
        await parts.framed.end()
        await parts.http.end()
        if self._cluster_ips is not None:
            await self._cluster_ips.close()
        if self._devices is not None:
            await self._devices.close()
        if self._rdma is not None:
            await self._rdma.close()
        await parts.detector.close()
        await asyncio.to_thread(parts.coordinating.close)
        await asyncio.to_thread(parts.visitor.close)
        await parts.view.close()
        await parts.writer.close()
        for port in (self.health_port, self.metrics_port):
            if port is not None:
                await port.close()
        if self._exposition is not None:
            self._exposition.close()
        if parts.tracer is not None:
            parts.tracer.close()
        parts.plugin_log.close()

    def _offer_devices(self) -> None:
        """Before this agent is ready: after a boot kubelet starts no Pod whose slot it lacks."""
        settings, parts = self.settings.devices, self.parts
        if settings is None:
            return
        from nodeagent.devices.joining import Devices  # noqa: PLC0415  # costs only who offers

        self._devices = Devices.joined(settings, parts.facts, parts.visitor, parts.metrics)

    async def _prepare_node(self) -> None:
        if not self.settings.tune_sysctls:
            return
        enabled = self.settings.selection
        wanted: tuple[tuple[Family, bool], ...] = (
            (4, enabled.ipv4_enabled),
            (6, enabled.ipv6_enabled),
        )
        families = tuple(family for family, is_wanted in wanted if is_wanted)
        visitor = self.parts.visitor
        await asyncio.to_thread(tune, visitor, visitor.home, families)

    async def _open_metrics(self, address: str) -> None:
        # Here, because OpenTelemetry costs a tenth of a second of the start.
        from nodeagent.telemetry.exposition import CONTENT_TYPE, Exposition  # noqa: PLC0415

        self._rdma = self._rdma_exposition()
        sources = () if self._rdma is None else (self._rdma,)
        self._exposition = Exposition(self.parts.metrics, sources)
        self.metrics_port = metrics_port(self._exposition.text, CONTENT_TYPE)
        name = "SPIDERPOOL_METRIC_HTTP_PORT"
        await self.metrics_port.open(address, self.settings.metrics_port, name)

    def _rdma_exposition(self) -> RdmaExposition | None:
        if not self.settings.rdma_metrics_enabled:
            return None
        from nodeagent.rdma.exporting import RdmaExposition  # noqa: PLC0415  # costs only who asks

        node, parts = self.settings.node_name, self.parts
        return RdmaExposition.over(node, parts.visitor, self._tenants, parts.metrics)

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
        self._sockets.append(listening)
        return listening

    def _on_fenced(self, error: WriterFenced) -> None:
        """Another process has this node's name: end, rather than fail every request."""
        self.parts.health.fenced = error
        self.ended.set()

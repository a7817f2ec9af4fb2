"""Starts and stops the parts of an agent.

Start: the node's set-up, the servers, the event writer, the configuration view. Stop: accept no
more requests, wait for the running requests, close all parts. If a part fails to start or stop, all
other parts are still closed.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from core.domain.addresses.ip_address import Family
from core.domain.events import Cause
from core.domain.validation.common_rules import counted
from core.errors import DatapathError, OutcomeUnknown, StoreUnavailable, WriterFenced
from core.eventstore.kv import KeyValueStore
from core.eventstore.retry_policies import retry_unavailable
from core.process.supervision import TaskSpec
from core.process.tcp_port import TcpPort
from core.process.teardown import Teardown
from core.process.tracing import current_tracer
from nodeagent.agent_metrics import register_agent_metrics
from nodeagent.clusterip.clusterip_setup import start_cluster_ips
from nodeagent.clusterip.service_sources import RecordSource, ServiceSource
from nodeagent.composition import STANDALONE_SOURCES, AgentParts, AgentSources, compose
from nodeagent.servers.health_port import health_port
from nodeagent.servers.unix_sockets import SOCKET_BACKLOG, ListeningSocket
from nodeagent.settings.agent_settings import Settings
from nodeagent.settings.sysctls import set_node_sysctls

if TYPE_CHECKING:
    from nodeagent.rdma.rdma_exposition import RdmaExposition
    from nodeagent.rdma.rdma_ports import RdmaPods
    from nodeagent.sriov.sriov_setup import SriovService

DRAIN_S_MAX: Final = 20.0
"""Seconds that running requests get after SIGTERM. Kubelet kills a Pod after 30 s."""

_log: Final = logging.getLogger(__name__)


class Agent:
    """One node agent. Create the agent inside the event loop that runs it.

    ``ended`` is set after a signal, or when another process has taken over this node's event
    writer.
    """

    def __init__(
        self,
        settings: Settings,
        store: KeyValueStore,
        *,
        sources: AgentSources = STANDALONE_SOURCES,
        services: ServiceSource | None = None,
        rdma_pods: Callable[[], RdmaPods] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.settings = settings
        self.ended = asyncio.Event()
        self.parts: AgentParts = compose(settings, store, sources, self._on_fenced, monotonic)
        register_agent_metrics(self.parts)
        self._opened = Teardown()
        self._register_parts_to_close()
        self.health_port: TcpPort | None = None
        self.metrics_port: TcpPort | None = None
        self._rdma_pods = rdma_pods
        self._sriov_source, self._api_server_url = sources.sriov, sources.server
        self.sriov: SriovService | None = None
        self._services = services or RecordSource(self.parts.view, settings.node_name)

    async def start(self) -> None:
        """Start all parts. If a step fails, all opened parts are closed.

        Waits for etcd without a time limit. Raises BadInput (a socket or port is not available),
        DatapathError (a sysctl cannot be set, or the kernel is too old), WriterFenced,
        StoreRejected.
        """
        try:
            await self._prepare_node()
            self._start_cluster_ips()
            self._start_sriov()
            self._start_device_plugin()
            self._start_roce_qos()
            await self._remove_stale_attachments()
            await self.open_servers()
            await self.become_ready()
        except BaseException:
            await self.stop()
            raise

    async def open_servers(self) -> None:
        """Listen on all sockets and ports. Raises BadInput.

        CNI executables call the framed socket. Spiderpool's API is on the HTTP socket. The servers
        answer "not ready" until the agent is ready.
        """
        settings, parts, teardown = self.settings, self.parts, self._opened
        # ``stop`` runs the pushed steps in reverse order: first it ends readiness.
        parts.plugin_log.start()
        address = settings.listen_address
        self.health_port = health_port(parts.health, parts.connections)
        teardown.push("the health port", self.health_port.close)
        await self.health_port.open(address, settings.health_port, "SPIDERPOOL_HEALTH_PORT")
        if settings.metrics_enabled:
            await self._open_metrics(address)
        teardown.push("calls on the framed socket", parts.framed.end)
        teardown.push("calls on the HTTP socket", parts.http.end)
        teardown.push("running requests", self._drain)
        framed = self._listen(settings.framed_socket_path)
        teardown.push("the framed socket", parts.framed.close)
        await parts.framed.open(framed.socket, SOCKET_BACKLOG)
        http = self._listen(settings.socket_path)
        teardown.push("the HTTP socket", parts.http.close)
        await parts.http.open(http.socket, SOCKET_BACKLOG, parts.connections)
        teardown.push("readiness", self._end_readiness)

    async def become_ready(self) -> None:
        """Open the writer and load the view. Raises WriterFenced, StoreRejected."""
        while not self.parts.health.started:
            try:
                async for attempt in retry_unavailable():
                    with attempt:
                        await self._open_writer_and_view()
            except (StoreUnavailable, OutcomeUnknown) as error:
                _log.warning("waiting for etcd: %s", error)

    async def stop(self) -> None:
        """Wait for running requests and close all parts. The caller closes the store.

        A failed step is added to ``stop_failures``; the other steps still run.
        """
        self.parts.health.stopping = True
        await self._opened.close()

    @property
    def stop_failures(self) -> list[str]:
        """The steps of ``stop`` that failed."""
        return self._opened.failures

    def _register_parts_to_close(self) -> None:
        # Pushed before the start, so ``stop`` closes these parts last.
        parts, teardown = self.parts, self._opened
        teardown.push_blocking("the plugin log", parts.plugin_log.close)
        tracer = current_tracer()
        if tracer is not None:
            teardown.push_blocking("the tracer", tracer.close)
        teardown.push("the writer", parts.writer.close)
        teardown.push("refused ADDs", parts.refusal_recorder.close)
        teardown.push("the configuration view", parts.view.close)
        teardown.push_blocking("the namespace thread", parts.executor.close)
        teardown.push_blocking("the coordinator's workers", parts.coordinator_handler.close)
        teardown.push("the detector", parts.detector.close)
        teardown.push("supervised tasks", parts.supervisor.close)

    def _end_readiness(self) -> None:
        self.parts.health.stopping = True

    async def _drain(self) -> None:
        if not await self.parts.runner.drain(DRAIN_S_MAX):
            _log.warning(
                "stopped with %s that did not end within %g s",
                counted(self.parts.runner.requests_under_way, "running request"),
                DRAIN_S_MAX,
            )

    async def _remove_stale_attachments(self) -> None:
        try:
            count = await self.parts.coordinator_handler.remove_stale()
        except DatapathError as error:
            _log.warning("cannot clean up stale attachments: %s", error)
            return
        if count:
            attachments = counted(count, "stale attachment")
            _log.info("cleaned up %s left from before the restart", attachments)

    def _start_cluster_ips(self) -> None:
        parts, settings = self.parts, self.settings.cluster_ip
        cluster_ips = start_cluster_ips(settings, self._services, parts.metrics, parts.supervisor)
        if cluster_ips is not None:
            self._opened.push("cluster IPs", cluster_ips.close)

    def _start_sriov(self) -> None:
        settings, source, parts = self.settings, self._sriov_source, self.parts
        if settings.sriov is None or source is None:
            return
        from core.allocation.guid_registry import GuidRegistry  # noqa: PLC0415  # if enabled
        from nodeagent.sriov.sriov_setup import start_sriov  # noqa: PLC0415  # if enabled

        node, cause = settings.node_name, Cause(settings.actor)
        guids = GuidRegistry(parts.store, parts.keys, parts.writer, node, cause)
        self.sriov = start_sriov(
            settings.sriov,
            settings.sysfs,
            source,
            guids,
            self._api_server_url,
            parts.executor,
            parts.metrics,
            parts.supervisor,
        )
        self._opened.push("virtual functions", self.sriov.close)

    def _start_device_plugin(self) -> None:
        settings, parts = self.settings.devices, self.parts
        if settings is None:
            return
        from nodeagent.devices.device_setup import start_device_plugin  # noqa: PLC0415  # if enabled
        from nodeagent.devices.pci_files import PciFiles  # noqa: PLC0415  # if enabled

        device_plugin = start_device_plugin(
            settings,
            parts.facts,
            parts.executor,
            parts.metrics,
            parts.supervisor,
            None if self.sriov is None else self.sriov.reconciler,
            PciFiles(self.settings.sysfs),
        )
        self._opened.push("the device plugin", device_plugin.close)

    def _start_roce_qos(self) -> None:
        settings, parts = self.settings, self.parts
        if not settings.roce_qos:
            return
        from nodeagent.roce_qos.roce_qos_setup import start_roce_qos  # noqa: PLC0415  # if set

        roce_qos = start_roce_qos(
            settings.roce_qos,
            settings.sysfs,
            parts.facts,
            parts.executor,
            parts.metrics,
            parts.supervisor,
        )
        self._opened.push("RoCE QoS", roce_qos.close)

    async def _prepare_node(self) -> None:
        await self._set_rdma_mode()
        if not self.settings.tune_sysctls:
            return
        selection = self.settings.selection
        family_switches: tuple[tuple[Family, bool], ...] = (
            (4, selection.ipv4_enabled),
            (6, selection.ipv6_enabled),
        )
        families = tuple(family for family, is_enabled in family_switches if is_enabled)
        executor = self.parts.executor
        await asyncio.to_thread(set_node_sysctls, executor, executor.own_namespace, families)

    async def _set_rdma_mode(self) -> None:
        mode = self.settings.rdma_mode
        if not mode:
            return
        from nodeagent.rdma.netns_mode import set_netns_mode  # noqa: PLC0415  # if set

        try:
            if await asyncio.to_thread(set_netns_mode, self.parts.executor, mode):
                _log.info("set the RDMA mode of this node to %s", mode)
        except DatapathError as error:
            # Not fatal: only networks with ``rdmaIsolation`` need the mode.
            _log.error("%s; %s", error, error.remedy)

    async def _open_metrics(self, address: str) -> None:
        # Imported here: OpenTelemetry adds 0.1 s to the start.
        from core.process.openmetrics import metrics_port  # noqa: PLC0415
        from nodeagent.telemetry.exposition import Exposition  # noqa: PLC0415

        rdma = self._rdma_exposition()
        exposition = Exposition(self.parts.metrics, () if rdma is None else (rdma,))
        self._opened.push_blocking("metrics", exposition.close)
        if rdma is not None:
            self._opened.push("RDMA counters", rdma.close)
        self.metrics_port = metrics_port(exposition.scrape, self.parts.connections)
        self._opened.push("the metrics port", self.metrics_port.close)
        name = "SPIDERPOOL_METRIC_HTTP_PORT"
        await self.metrics_port.open(address, self.settings.metrics_port, name)

    def _rdma_exposition(self) -> RdmaExposition | None:
        if not self.settings.rdma_metrics_enabled:
            return None
        from nodeagent.rdma.rdma_exposition import RdmaExposition  # noqa: PLC0415  # if enabled

        node, parts = self.settings.node_name, self.parts
        return RdmaExposition.for_node(node, parts.executor, self._rdma_pods, parts.metrics)

    async def _open_writer_and_view(self) -> None:
        parts = self.parts
        if not parts.writer.epoch:
            await parts.writer.open()
        await parts.view.start()
        parts.supervisor.start(TaskSpec("refusal-recorder", parts.refusal_recorder.run))
        parts.health.started = True
        fields = {"node": self.settings.node_name, "epoch": parts.writer.epoch}
        _log.info("ready", extra={"fields": fields})

    def _listen(self, path: str) -> ListeningSocket:
        listening_socket = ListeningSocket(path)
        self._opened.push(path, listening_socket.remove)
        return listening_socket

    def _on_fenced(self, error: WriterFenced) -> None:
        self.parts.health.fenced = error
        self.ended.set()

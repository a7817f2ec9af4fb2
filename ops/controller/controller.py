"""The controller: its parts, the order in which they start, and how they end.

Every replica projects, observes, watches the cluster, answers probes and shares in the workflows;
the one that leads also translates custom resources, publishes views, watches applications, and sees
to it that executions are there that must be. Composition only: it decides nothing.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from core.archive.files import LocalFiles
from core.concurrency import until_first
from core.projections.projector import Projector
from core.projections.publisher import Publisher
from core.store.election import Election, Term
from core.store.faults import Faults
from core.store.keys import Keys
from core.store.kv import KeyValueStore
from nodeagent.doors.tcp_port import TcpPort
from ops.controller.health import Health, health_port
from ops.controller.metrics import Metrics, Sources, metrics_port
from ops.controller.observing import Observing
from ops.controller.probing import LinkProber
from ops.controller.settings import ControllerSettings
from ops.kubernetes.hosting import KubernetesHost
from ops.kubernetes.settings import KubernetesSettings
from ops.kubernetes.watching.hosting import ClusterWatch
from ops.settings import CONTROLLER_ROLE
from workflows.engine.retention import ARCHIVE_FOLDER, Archive
from workflows.engine.telemetry import Telemetry, TracerProvider
from workflows.engine.worker import WorkerOptions
from workflows.jobs.archiving.activities import ArchiveActivities
from workflows.jobs.hosting import NOTICES, JobHost, JobSettings
from workflows.jobs.hosting import Sources as JobSources
from workflows.jobs.noticing import Noticing
from workflows.jobs.quarantine.probing import NoProber

if TYPE_CHECKING:
    from ops.kubernetes.admission.hosting import AdmissionHost

_log: Final = logging.getLogger(__name__)


class Controller:
    """One replica over one store. Make it inside the event loop that runs it.

    ``cluster`` None: standalone. The controller closes it.
    """

    def __init__(
        self,
        settings: ControllerSettings,
        store: KeyValueStore,
        tracers: TracerProvider | None = None,
        cluster: ClusterWatch | None = None,
    ) -> None:
        keys = Keys(settings.cluster.cluster)
        self.settings = settings
        faults = Faults()
        self.projector = Projector(store, keys, faults)
        self.publisher = Publisher(store, keys, self.projector, settings.name)
        self.election = Election(
            store, keys, CONTROLLER_ROLE, settings.name, ttl_s=settings.lease_ttl_s
        )
        self.archiving = ArchiveActivities(
            store, keys, LocalFiles(settings.cluster.archive), settings.retention
        )
        self.observing = Observing(store, keys, self.projector, CONTROLLER_ROLE)
        self.prober = (
            LinkProber(settings.probe_interface, settings.name)
            if settings.probe_interface
            else None
        )
        self._metrics = Metrics() if settings.metrics_enabled else None
        meters = self._metrics.provider if self._metrics is not None else None
        closed = Archive(LocalFiles(settings.cluster.archive / ARCHIVE_FOLDER))
        self.jobs = JobHost(
            store,
            keys,
            settings.name,
            JobSettings(
                settings.reclaim, settings.auto_pools, settings.provider, settings.cool_down_s
            ),
            sources=JobSources(
                cluster.facts if cluster is not None else None,
                cluster.applications if cluster is not None else None,
                self.prober or NoProber(),
                self.archiving,
                faults,
            ),
            options=WorkerOptions(archive=closed),
            telemetry=Telemetry(tracers=tracers, meters=meters),
        )
        self.admission = _admission(settings.kubernetes, store, keys, self.projector)
        known = self.projector, self.observing, self.jobs, self.election
        self.health = Health(*known, cluster, self.admission)
        self.noticing = Noticing(store, keys, self.projector, NOTICES, settings.name)
        self.kubernetes = (
            KubernetesHost(settings.kubernetes, store, keys, self.projector, settings.name)
            if settings.kubernetes is not None
            else None
        )
        self.ports: list[TcpPort] = []
        self.cluster = cluster
        self._store = store

    async def run(self, stop: asyncio.Event) -> None:
        """Work until told to stop. Raises what no retry helps: LogError, StoreRejected, OSError."""
        await self._open_ports()
        works = [self.projector.run(), self.observing.run(), self.election.lead(self._lead)]
        if self.admission is not None:
            works.append(self.admission.run())
        if self.cluster is not None and self.settings.reclaim.enabled:
            works.append(self.cluster.run())
        try:
            await until_first(stop.wait(), *works, self.jobs.run())
        finally:
            self.health.stopping = True
            await self._close()

    async def _lead(self, term: Term) -> None:
        _log.info("leading", extra={"fields": {"epoch": term.epoch, "name": term.name}})
        try:
            works = [self.publisher.run(term.fence), self.jobs.lead(), self.noticing.run()]
            if self.kubernetes is not None:
                works.append(self.kubernetes.run(term))
            if self.cluster is not None and self.settings.auto_pools.enabled:
                works.append(self.cluster.lead())
            await until_first(*works)
        finally:
            _log.info("leads no more", extra={"fields": {"epoch": term.epoch}})

    async def _open_ports(self) -> None:
        settings = self.settings
        wanted = [(health_port(self.health), settings.health_port, "SPIDERPOOL_HEALTH_PORT")]
        if self._metrics is not None:
            known = self.projector, self.publisher, self.election, self.archiving
            sources = Sources(*known, self.observing, self.jobs, self.cluster)
            self._metrics.observe(sources, debug=settings.debug_metrics_enabled)
            port = metrics_port(self._metrics)
            wanted.append((port, settings.metrics_port, "SPIDERPOOL_METRIC_HTTP_PORT"))
        for port, number, setting in wanted:
            self.ports.append(port)
            await port.open(settings.listen_address, number, setting)
            _log.info("listening", extra={"fields": {"port": port.port}})

    async def _close(self) -> None:
        for port in self.ports:
            await port.close()
        if self._metrics is not None:
            self._metrics.close()
        if self.prober is not None:
            await self.prober.close()
        if self.cluster is not None:
            await self.cluster.close()
        await self._store.close()


def _admission(
    settings: KubernetesSettings | None,
    store: KeyValueStore,
    keys: Keys,
    projector: Projector,
) -> AdmissionHost | None:
    if settings is None or settings.webhook is None:
        return None
    # With all that makes certificates, which weighs a tenth of a controller that serves none.
    from ops.kubernetes.admission.hosting import AdmissionHost

    return AdmissionHost(settings, settings.webhook, store, keys, projector)

"""The controller: its parts, the order in which they start, and how they end.

Every replica runs the projection, the observer, the cluster watch, its ports and a share of the
workflows. The leader also translates custom resources, publishes checkpoints, watches applications,
and starts required executions. Composition only: it makes no decisions.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from core.archive.files import LocalFiles
from core.errors import LostRace
from core.eventstore.election import Election, LeaderTerm
from core.eventstore.faults import Faults
from core.eventstore.keys import Keys
from core.eventstore.kv import WATCH_SILENT_S_MAX, KeyValueStore
from core.process.concurrency import until_first
from core.process.connections import ConnectionCounts
from core.process.openmetrics import metrics_port
from core.process.supervision import RESTARTS_MAX, HealthCheck, Supervisor, TaskSpec
from core.process.tcp_port import TcpPort
from core.process.teardown import Teardown
from core.projections.projector import Projector
from core.projections.publisher import Publisher
from ops.controller.forecaster import Forecaster
from ops.controller.health import ControllerHealth, health_port
from ops.controller.metrics import ControllerMetrics, MetricSources
from ops.controller.observer import STALE_S_MAX as OBSERVATION_STALE_S_MAX
from ops.controller.observer import ControllerObserver
from ops.controller.settings import ControllerSettings
from ops.kubernetes.kubernetes_host import KubernetesHost
from ops.kubernetes.node_drainer import KubernetesNodeDrainer
from ops.kubernetes.outlooks import PoolOutlooks
from ops.kubernetes.settings import KubernetesSettings
from ops.kubernetes.watches.cluster_watch import ClusterWatch
from ops.settings import CONTROLLER_ROLE
from workflows.engine.store.archive_files import ARCHIVE_FOLDER, ExecutionFiles
from workflows.engine.telemetry import Telemetry, TracerProvider
from workflows.engine.worker.retention import Archive
from workflows.engine.worker.worker import WorkerOptions
from workflows.jobs.archive.activities import ArchiveActivities
from workflows.jobs.job_host import NOTICES, JobHost, JobSettings, JobSources
from workflows.jobs.node_drain.activities import DrainActivities
from workflows.jobs.quarantine.prober import NoProber
from workflows.jobs.required_executions import ExecutionKeeper

if TYPE_CHECKING:
    from ops.console.console_host import ConsoleHost
    from ops.controller.link_prober import LinkProber
    from ops.kubernetes.admission.admission_host import AdmissionHost

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
        supervisor: Supervisor | None = None,
    ) -> None:
        keys = Keys(settings.cluster.cluster)
        self.settings = settings
        self.supervisor = supervisor or Supervisor()
        self.leader_supervisor = Supervisor()
        self.console_supervisor = Supervisor()
        """Runs the console, apart from the rest: a replica is ready with or without it."""
        self.connections = ConnectionCounts()
        self._opened = Teardown()
        faults = Faults()
        self.projector = Projector(store, keys, faults)
        self.publisher = Publisher(store, keys, self.projector, settings.name)
        self.election = Election(
            store, keys, CONTROLLER_ROLE, settings.name, ttl_s=settings.lease_ttl_s
        )
        files = LocalFiles(settings.cluster.archive)
        self.archiving = ArchiveActivities(store, keys, files, settings.retention)
        outlooks = PoolOutlooks()
        self.forecaster = Forecaster(
            store, keys, files, self.projector, on_forecasts=outlooks.update
        )
        self.observing = ControllerObserver(store, keys, self.projector, CONTROLLER_ROLE)
        self.prober = _prober(settings)
        self._metrics = ControllerMetrics() if settings.metrics_enabled else None
        meters = self._metrics.provider if self._metrics is not None else None
        closed = Archive(ExecutionFiles(settings.cluster.archive / ARCHIVE_FOLDER))
        self.jobs = JobHost(
            store,
            keys,
            settings.name,
            JobSettings(
                *(settings.reclaim, settings.auto_pools, settings.provider, settings.cool_down_s),
                settings.sriov.drained_nodes_max if settings.sriov is not None else 0,
            ),
            sources=JobSources(
                cluster.facts if cluster is not None else None,
                cluster.applications if cluster is not None else None,
                self.prober or NoProber(),
                self.archiving,
                faults,
                _drains(settings, cluster),
            ),
            options=WorkerOptions(archive=closed),
            telemetry=Telemetry(tracers=tracers, meters=meters),
            supervisor=self.supervisor,
        )
        known_to_webhooks = store, keys, self.projector, self.connections
        self.admission = _admission(settings.kubernetes, *known_to_webhooks)
        known = self.projector, self.observing, self.jobs, self.election
        self.health = ControllerHealth(*known, cluster, self.admission, supervised=self.supervised)
        self.noticing = ExecutionKeeper(store, keys, self.projector, NOTICES, settings.name)
        self.console = _console(settings, store, keys, self.connections)
        self.kubernetes = _kubernetes(settings, store, keys, self.projector, outlooks)
        self.ports: list[TcpPort] = []
        self.cluster = cluster
        self._store = store

    async def run(self, stop: asyncio.Event) -> None:
        """Work until ``stop`` is set; whatever fails, everything that was opened is closed.

        Raises BadInput (a port that cannot be had), and TaskEnded when a task used up its restarts.
        """
        opened = self._opened
        opened.push("the store", self._store.close)
        if self.cluster is not None:
            opened.push("the API client", self.cluster.close)
        if self.prober is not None:
            opened.push("the prober", self.prober.close)
        if self._metrics is not None:
            opened.push_blocking("metrics", self._metrics.close)
        opened.push("the jobs", self.jobs.close)
        opened.push("supervised tasks", self.supervisor.close)
        opened.push("the console", self.console_supervisor.close)
        try:
            await self._open_ports()
            for task in self._tasks():
                self.supervisor.start(task)
            if self.console is not None:
                self.console_supervisor.start(TaskSpec("console", self.console.run))
            await until_first(stop.wait(), self.supervisor.wait_failed())
        finally:
            self.health.stopping = True
            await opened.close()

    @property
    def stop_failures(self) -> list[str]:
        """The parts that could not be closed."""
        return self._opened.failures

    def supervised(self) -> list[HealthCheck]:
        """Every task of this replica, those of a leader too while it leads."""
        tasks = [self.supervisor, self.leader_supervisor]
        if self.kubernetes is not None:
            tasks.append(self.kubernetes.tasks)
        if self.admission is not None:
            tasks.append(self.admission.tasks)
        return [each for supervisor in tasks for each in supervisor.health()]

    def _tasks(self) -> Iterator[TaskSpec]:
        """The tasks of every replica. One that fails repeatedly ends the process."""
        projector, observing = self.projector, self.observing
        yield TaskSpec(
            "projector", projector.run, RESTARTS_MAX, projector.age_s, WATCH_SILENT_S_MAX
        )
        yield TaskSpec(
            "observer", observing.run, RESTARTS_MAX, observing.age_s, OBSERVATION_STALE_S_MAX
        )
        yield TaskSpec("election", lambda: self.election.lead(self._lead), RESTARTS_MAX)
        yield TaskSpec("workflow-worker", self.jobs.work, RESTARTS_MAX)
        if self.admission is not None:
            yield TaskSpec("webhooks", self.admission.run)
        if self.cluster is not None and self.settings.reclaim.enabled:
            yield TaskSpec("cluster-watch", self.cluster.run)

    async def _lead(self, term: LeaderTerm) -> None:
        """Run the tasks of a leader. Raises TaskEnded, which ends the term."""
        _log.info("leading", extra={"fields": {"epoch": term.epoch, "name": term.name}})
        try:
            for task in self._leader_tasks(term):
                self.leader_supervisor.start(task)
            await self.leader_supervisor.wait_failed()
        finally:
            await self.leader_supervisor.close()
            _log.info("stopped leading", extra={"fields": {"epoch": term.epoch}})

    def _leader_tasks(self, term: LeaderTerm) -> Iterator[TaskSpec]:
        """The tasks of the leader. LostRace ends the term, because another controller leads."""
        overtaken = (LostRace,)
        yield TaskSpec(
            "publisher", lambda: self.publisher.run(term.fence), RESTARTS_MAX, fatal=overtaken
        )
        yield TaskSpec("execution-starter", self.noticing.run, RESTARTS_MAX)
        yield TaskSpec("forecaster", self.forecaster.run)
        yield from self.jobs.leader_tasks()
        kubernetes = self.kubernetes
        if kubernetes is not None:
            yield TaskSpec(
                "translator", lambda: kubernetes.run(term), RESTARTS_MAX, fatal=overtaken
            )
        if self.cluster is not None and self.settings.auto_pools.enabled:
            yield TaskSpec("application-watch", self.cluster.lead, RESTARTS_MAX)

    async def _open_ports(self) -> None:
        settings = self.settings
        health = health_port(self.health, self.connections)
        ports = [(health, settings.health_port, "SPIDERPOOL_HEALTH_PORT")]
        if self._metrics is not None:
            known = self.projector, self.publisher, self.election, self.archiving
            sources = MetricSources(
                *known, self.observing, self.jobs, self.cluster, self.forecaster
            )
            self._metrics.observe(
                sources, debug=settings.debug_metrics_enabled, connections=self.connections
            )
            port = metrics_port(self._metrics.scrape, self.connections)
            ports.append((port, settings.metrics_port, "SPIDERPOOL_METRIC_HTTP_PORT"))
        for port, number, setting in ports:
            self.ports.append(port)
            self._opened.push(setting, port.close)
            await port.open(settings.listen_address, number, setting)
            _log.info("listening", extra={"fields": {"port": port.port}})


def _prober(settings: ControllerSettings) -> LinkProber | None:
    if not settings.probe_interface:
        return None
    # Needs sockets and ARP of the agent, which a controller without an interface does without.
    from ops.controller.link_prober import LinkProber  # noqa: PLC0415

    return LinkProber(settings.probe_interface, settings.name)


def _drains(settings: ControllerSettings, cluster: ClusterWatch | None) -> DrainActivities | None:
    """None: virtual functions are left alone. Otherwise nodes can at least be uncordoned."""
    if cluster is None or settings.sriov is None or not settings.namespace:
        return None
    return DrainActivities(KubernetesNodeDrainer(cluster.api, settings.namespace))


def _kubernetes(
    settings: ControllerSettings,
    store: KeyValueStore,
    keys: Keys,
    projector: Projector,
    outlooks: PoolOutlooks,
) -> KubernetesHost | None:
    """The tasks with an API server; None without one."""
    if settings.kubernetes is None:
        return None
    return KubernetesHost(settings.kubernetes, store, keys, projector, settings.name, outlooks)


def _admission(
    settings: KubernetesSettings | None,
    store: KeyValueStore,
    keys: Keys,
    projector: Projector,
    connections: ConnectionCounts,
) -> AdmissionHost | None:
    if settings is None or settings.webhook is None:
        return None
    # Imports the package cryptography, a tenth of the memory of a controller without webhooks.
    from ops.kubernetes.admission.admission_host import AdmissionHost  # noqa: PLC0415

    return AdmissionHost(settings, settings.webhook, store, keys, projector, connections)


def _console(
    settings: ControllerSettings,
    store: KeyValueStore,
    keys: Keys,
    connections: ConnectionCounts,
) -> ConsoleHost | None:
    if settings.console is None:
        return None
    # Most controllers serve no console, and need none of its modules.
    from ops.console.console_host import ConsoleHost  # noqa: PLC0415

    return ConsoleHost(
        settings.console,
        store,
        keys,
        settings.cluster.archive,
        cluster=settings.cluster.cluster,
        cool_down_s=settings.cool_down_s,
        connections=connections,
    )

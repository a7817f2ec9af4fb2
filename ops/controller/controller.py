"""The controller: creates, starts and stops the parts of a replica.

Every replica runs the projection, the observer, the cluster watch, its ports and a share of the
workflows. The leader also translates custom resources, publishes checkpoints, watches applications,
and starts required executions.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from core.archive.archive_directory import LocalFiles
from core.errors import LostRace
from core.eventstore.election import Election, LeaderTerm
from core.eventstore.keys import Keys
from core.eventstore.kv import WATCH_SILENT_S_MAX, KeyValueStore
from core.eventstore.undecodable_values import Faults
from core.process.concurrency import until_first
from core.process.connections import ConnectionCounts
from core.process.openmetrics import MetricsRegistry, metrics_port
from core.process.supervision import RESTARTS_MAX, HealthCheck, Supervisor, TaskSpec
from core.process.tcp_port import TcpPort
from core.process.teardown import Teardown
from core.projections.projector import Projector
from core.projections.publisher import Publisher
from ops.controller.forecaster import Forecaster
from ops.controller.health import ControllerHealth, health_port
from ops.controller.metrics import MetricSources, observe_controller
from ops.controller.observer import STALE_S_MAX as OBSERVATION_STALE_S_MAX
from ops.controller.observer import ControllerObserver
from ops.controller.settings import ControllerSettings
from ops.kubernetes.kubernetes_host import KubernetesHost
from ops.kubernetes.node_drainer import KubernetesNodeDrainer
from ops.kubernetes.pool_outlooks import PoolOutlooks
from ops.kubernetes.scale_recorder import ScaleRecorder
from ops.kubernetes.settings import KubernetesSettings
from ops.kubernetes.watches.cluster_watch import ClusterWatch
from ops.settings import CONTROLLER_ROLE
from workflows.engine.store.archive_files import ARCHIVE_FOLDER, ExecutionFiles
from workflows.engine.telemetry import Telemetry, TracerProvider
from workflows.engine.worker.retention import Archive
from workflows.engine.worker.worker import WorkerOptions
from workflows.jobs.archive.activities import ArchiveActivities
from workflows.jobs.job_host import REQUIRED_EXECUTIONS, JobHost, JobSettings, JobSources
from workflows.jobs.node_drain.activities import DrainActivities
from workflows.jobs.quarantine.prober import NoProber
from workflows.jobs.required_executions import ExecutionKeeper

if TYPE_CHECKING:
    from ops.console.console_host import ConsoleHost
    from ops.controller.link_prober import LinkProber
    from ops.kubernetes.admission.admission_host import AdmissionHost

_log: Final = logging.getLogger(__name__)


class Controller:
    """One replica. Create it inside its event loop.

    ``run`` closes ``cluster``, which is None in standalone mode.
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
        name = settings.name
        self.settings = settings
        self.supervisor = supervisor or Supervisor()
        self.leader_supervisor = Supervisor()
        self.console_supervisor = Supervisor()
        """``supervised`` leaves it out, so a replica whose console fails stays ready."""
        self.connections = ConnectionCounts()
        self._teardown = Teardown()
        faults = Faults()
        self.projector = Projector(store, keys, faults)
        self.publisher = Publisher(store, keys, self.projector, name)
        self.election = Election(store, keys, CONTROLLER_ROLE, name, ttl_s=settings.lease_ttl_s)
        files = LocalFiles(settings.cluster.archive)
        self.archiving = ArchiveActivities(store, keys, files, settings.retention)
        outlooks = PoolOutlooks()
        self.forecaster = Forecaster(
            store, keys, files, self.projector, on_forecasts=outlooks.update
        )
        self.observer = ControllerObserver(store, keys, self.projector, CONTROLLER_ROLE)
        self.prober = _prober(settings)
        self._metrics = MetricsRegistry() if settings.metrics_enabled else None
        meters = self._metrics.provider if self._metrics is not None else None
        execution_archive = Archive(ExecutionFiles(settings.cluster.archive / ARCHIVE_FOLDER))
        self.jobs = JobHost(
            store,
            keys,
            name,
            _job_settings(settings),
            sources=JobSources(
                facts=cluster.facts if cluster is not None else None,
                applications=cluster.applications if cluster is not None else None,
                prober=self.prober or NoProber(),
                archive=self.archiving,
                faults=faults,
                drains=_drains(settings, cluster),
            ),
            options=WorkerOptions(archive=execution_archive),
            telemetry=Telemetry(tracers=tracers, meters=meters),
            supervisor=self.supervisor,
        )
        self.admission = _admission(
            settings.kubernetes, store, keys, self.projector, self.connections
        )
        self.health = ControllerHealth(
            self.projector,
            self.observer,
            self.jobs,
            self.election,
            cluster,
            self.admission,
            supervised=self.supervised,
        )
        self.execution_keeper = ExecutionKeeper(
            store, keys, self.projector, REQUIRED_EXECUTIONS, name
        )
        self.console = _console(settings, store, keys, self.connections)
        self.kubernetes = _kubernetes(settings, store, keys, self.projector, outlooks)
        self.ports: list[TcpPort] = []
        self.cluster = cluster
        self._store = store
        self._keys = keys

    async def run(self, stop: asyncio.Event) -> None:
        """Run until ``stop`` is set, then close everything, even after a failure.

        Raises BadInput for a port that is in use, and TaskEnded if a task used up its restarts.
        """
        teardown = self._teardown
        teardown.push("the store", self._store.close)
        if self.cluster is not None:
            teardown.push("the API client", self.cluster.close)
        if self.prober is not None:
            teardown.push("the prober", self.prober.close)
        if self._metrics is not None:
            teardown.push_blocking("metrics", self._metrics.close)
        teardown.push("the jobs", self.jobs.close)
        teardown.push("supervised tasks", self.supervisor.close)
        teardown.push("the console", self.console_supervisor.close)
        try:
            await self._open_ports()
            for task in self._tasks():
                self.supervisor.start(task)
            if self.console is not None:
                self.console_supervisor.start(TaskSpec("console", self.console.run))
            await until_first(stop.wait(), self.supervisor.wait_for_failure())
        finally:
            self.health.stopping = True
            await teardown.close()

    @property
    def stop_failures(self) -> list[str]:
        """The parts that were not closed."""
        return self._teardown.failures

    def supervised(self) -> list[HealthCheck]:
        """The health of this replica's tasks, without the console."""
        supervisors = [self.supervisor, self.leader_supervisor]
        if self.kubernetes is not None:
            supervisors.append(self.kubernetes.tasks)
        if self.admission is not None:
            supervisors.append(self.admission.tasks)
        return [check for supervisor in supervisors for check in supervisor.health()]

    def _tasks(self) -> Iterator[TaskSpec]:
        """The process ends if a task exceeds its limit of restarts."""
        projector, observer = self.projector, self.observer
        yield TaskSpec(
            "projector",
            projector.run,
            RESTARTS_MAX,
            age_s=projector.age_s,
            stale_s=WATCH_SILENT_S_MAX,
        )
        yield TaskSpec(
            "observer",
            observer.run,
            RESTARTS_MAX,
            age_s=observer.age_s,
            stale_s=OBSERVATION_STALE_S_MAX,
        )
        yield TaskSpec("election", lambda: self.election.lead(self._lead), RESTARTS_MAX)
        yield TaskSpec("workflow-worker", self.jobs.work, RESTARTS_MAX)
        if self.admission is not None:
            yield TaskSpec("webhooks", self.admission.run)
        if self.cluster is not None and self.settings.reclaim.enabled:
            yield TaskSpec("cluster-watch", self.cluster.run)

    async def _lead(self, term: LeaderTerm) -> None:
        """Raises TaskEnded, which ends the term."""
        _log.info("leading", extra={"fields": {"epoch": term.epoch, "name": term.name}})
        try:
            for task in self._leader_tasks(term):
                self.leader_supervisor.start(task)
            await self.leader_supervisor.wait_for_failure()
        finally:
            await self.leader_supervisor.close()
            _log.info("stopped leading", extra={"fields": {"epoch": term.epoch}})

    def _leader_tasks(self, term: LeaderTerm) -> Iterator[TaskSpec]:
        """A task that raises LostRace ends the term, because another controller leads."""
        fatal_errors = (LostRace,)
        yield TaskSpec(
            "publisher", lambda: self.publisher.run(term.fence), RESTARTS_MAX, fatal=fatal_errors
        )
        yield TaskSpec("execution-starter", self.execution_keeper.run, RESTARTS_MAX)
        yield TaskSpec("forecaster", self.forecaster.run)
        yield from self.jobs.leader_tasks()
        kubernetes = self.kubernetes
        if kubernetes is not None:
            yield TaskSpec(
                "translator", lambda: kubernetes.run(term), RESTARTS_MAX, fatal=fatal_errors
            )
        if self.cluster is not None and self.settings.auto_pools.enabled:
            yield TaskSpec("application-watch", self.cluster.lead, RESTARTS_MAX)
            scales = ScaleRecorder(
                self._store, self._keys, self.projector, self.cluster.applications
            )
            yield TaskSpec("scale-recorder", scales.run, fatal=fatal_errors)

    async def _open_ports(self) -> None:
        settings = self.settings
        health = health_port(self.health, self.connections)
        ports = [(health, settings.health_port, "SPIDERPOOL_HEALTH_PORT")]
        if self._metrics is not None:
            sources = MetricSources(
                projector=self.projector,
                publisher=self.publisher,
                election=self.election,
                archiving=self.archiving,
                observer=self.observer,
                jobs=self.jobs,
                cluster=self.cluster,
                forecaster=self.forecaster,
            )
            meters, debug = self._metrics.provider, settings.debug_metrics_enabled
            observe_controller(meters, sources, self.connections, debug=debug)
            port = metrics_port(self._metrics.scrape, self.connections)
            ports.append((port, settings.metrics_port, "SPIDERPOOL_METRIC_HTTP_PORT"))
        for port, number, setting in ports:
            self.ports.append(port)
            self._teardown.push(setting, port.close)
            await port.open(settings.listen_address, number, setting)
            _log.info("listening", extra={"fields": {"port": port.port}})


def _job_settings(settings: ControllerSettings) -> JobSettings:
    return JobSettings(
        reclaim=settings.reclaim,
        auto_pools=settings.auto_pools,
        provider=settings.provider,
        cool_down_s=settings.cool_down_s,
        max_unavailable=settings.sriov.drained_nodes_max if settings.sriov is not None else 0,
    )


def _prober(settings: ControllerSettings) -> LinkProber | None:
    if not settings.probe_interface:
        return None
    # Saves memory: without a probe interface, a controller needs no modules of the agent.
    from ops.controller.link_prober import LinkProber  # noqa: PLC0415

    return LinkProber(settings.probe_interface, settings.name)


def _drains(settings: ControllerSettings, cluster: ClusterWatch | None) -> DrainActivities | None:
    """None if virtual functions are not managed."""
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
    """None in standalone mode."""
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
    # Saves memory: the package cryptography needs a tenth of a controller's memory.
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
    # Saves memory: most controllers serve no console.
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

"""The worker of all jobs in a controller.

Each replica starts the executions that exist once per cluster, and signals its settings to them.
Each execution runs in the worker that owns its shard. The leader also starts executions when Pods,
applications or bindings change.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from functools import partial
from typing import Any, Final, NamedTuple

from core.allocation.cooldown import COOL_DOWN_S
from core.allocation.handover import Handover
from core.allocation.provider_settings import ProviderSettings
from core.domain.autopools.pool_size import AutoPoolSettings
from core.domain.reclaim.evidence import Observer
from core.domain.reclaim.settings import ReclaimSettings
from core.errors import ExecutionNotFound, LogCorrupt
from core.eventstore.claim_cause import cause_of
from core.eventstore.keys import Keys
from core.eventstore.kv import KeyValueStore
from core.eventstore.retry_policies import retry_unavailable
from core.eventstore.undecodable_values import Faults
from core.process.concurrency import until_all
from core.process.retry import Backoff, retry_until_done
from core.process.supervision import RESTARTS_MAX, Supervisor, TaskSpec
from core.process.teardown import Teardown
from core.projections.configuration_view import ConfigurationView
from workflows.api.definitions import Registry
from workflows.api.options import USE_EXISTING
from workflows.engine.client.client import Client
from workflows.engine.client.schedules import Schedules
from workflows.engine.store.kinds import OPEN_HEADS
from workflows.engine.telemetry import Telemetry
from workflows.engine.worker.worker import Worker, WorkerOptions
from workflows.jobs.archive.activities import ArchiveActivities
from workflows.jobs.archive.archive import WORKFLOW_ID as ARCHIVE_ID
from workflows.jobs.archive.archive import ArchiveLog
from workflows.jobs.archive.prune import PRUNE_SCHEDULE, PruneArchive
from workflows.jobs.archive.prune import SCHEDULE_ID as PRUNES_ID
from workflows.jobs.autopools.application import AutoPools
from workflows.jobs.autopools.application_dispatcher import ApplicationDispatcher
from workflows.jobs.autopools.applications import ApplicationsSource, RecordedApplications
from workflows.jobs.autopools.pool_activities import AutoPoolActivities, PoolPlanner
from workflows.jobs.node_drain.activities import DrainActivities
from workflows.jobs.node_drain.drains import SETTINGS_SIGNAL as DRAIN_SETTINGS
from workflows.jobs.node_drain.drains import WORKFLOW_ID as DRAINS_ID
from workflows.jobs.node_drain.drains import DrainSettings, SriovDrains
from workflows.jobs.provider.activities import ProviderActivities
from workflows.jobs.provider.binding import ExternalBinding
from workflows.jobs.provider.binding_dispatcher import BindingDispatcher
from workflows.jobs.provider.client import ProviderClient
from workflows.jobs.quarantine.activities import QuarantineActivities
from workflows.jobs.quarantine.probe import ProbeQuarantine, required_probes
from workflows.jobs.quarantine.prober import NoProber, Prober
from workflows.jobs.reclaim.pod import (
    ChangeListener,
    PodActivities,
    PodExecutionStarter,
    ReclaimPod,
)
from workflows.jobs.reclaim.reclaim_context import ReclaimContext, ReclaimFactsSource, observer_of
from workflows.jobs.reclaim.scan import (
    SCAN_NOW,
    SETTINGS_SIGNAL,
    WORKFLOW_ID,
    ReclaimScan,
    scan_settings,
)
from workflows.jobs.reclaim.scan_activities import ReclaimActivities
from workflows.jobs.record_lookup import StandaloneReclaimFactsSource
from workflows.jobs.required_executions import RequiredExecution, ensure_execution
from workflows.jobs.retirement.activities import RetirementActivities
from workflows.jobs.retirement.pool import PoolRetirement
from workflows.jobs.retirement.required_retirements import required_retirements
from workflows.jobs.retirement.subnet import SubnetRetirement
from workflows.jobs.shard_writers import Releases, ShardWriters

REQUIRED_EXECUTIONS: Final = (required_retirements, required_probes)
VIEW_PAUSE_S: Final = 0.2
VIEW_PAUSE_S_MAX: Final = 5.0
_log: Final = logging.getLogger(__name__)


class JobSettings(NamedTuple):
    """The settings of all jobs.

    ``max_unavailable``: how many nodes may be drained at a time to change virtual functions.
    """

    reclaim: ReclaimSettings = ReclaimSettings()
    auto_pools: AutoPoolSettings = AutoPoolSettings()
    provider: ProviderSettings | None = None
    cool_down_s: int = COOL_DOWN_S
    max_unavailable: int = 1


class JobSources(NamedTuple):
    """The jobs' access to the cluster.

    If ``facts`` or ``applications`` is None, records replace it (standalone mode). ``faults``: the
    registry of unreadable stored values.
    """

    facts: ReclaimFactsSource | None = None
    applications: ApplicationsSource | None = None
    prober: Prober = NoProber()
    archive: ArchiveActivities | None = None
    faults: Faults | None = None
    drains: DrainActivities | None = None


class JobHost:
    """The worker, the activities and the leader's tasks of one replica."""

    def __init__(  # noqa: PLR0913  # tests set each alone
        self,
        store: KeyValueStore,
        keys: Keys,
        name: str,
        settings: JobSettings = JobSettings(),
        *,
        sources: JobSources = JobSources(),
        options: WorkerOptions = WorkerOptions(),
        observer: Observer | None = None,
        telemetry: Telemetry | None = None,
        supervisor: Supervisor | None = None,
    ) -> None:
        self._keys, telemetry = keys, telemetry or Telemetry()
        source = sources.facts or StandaloneReclaimFactsSource(store, keys)
        self._settings, self._auto_pools, provider, cool_down_s, max_unavailable = settings
        self._drain_settings = DrainSettings(max_unavailable)
        self._client = Client(store, keys, name=name, telemetry=telemetry)
        find_cause = partial(cause_of, store, keys) if telemetry.traces else None
        self._pod_starter = PodExecutionStarter(self._client, self._settings, find_cause)
        self.writers = ShardWriters(store, keys)
        # The provider unbinds addresses before they are released.
        handover = Handover(store, keys) if provider is not None else None
        self.releases = Releases(store, keys, self.writers, handover, cool_down_s=cool_down_s)
        context = ReclaimContext(
            store, keys, source, self._settings, observer or observer_of(), self.releases
        )
        self.pods = PodActivities(context)
        scan = ReclaimActivities(context, self._pod_starter.start)
        self.listener = ChangeListener(context, self._pod_starter.start, self._scan_now)
        quarantine = QuarantineActivities(store, keys, self.writers, sources.prober)
        retirement = RetirementActivities(store, keys, self.writers)
        self._view = ConfigurationView(store, keys, supervisor, faults=sources.faults)
        self._view_started = asyncio.Event()
        applications = sources.applications or RecordedApplications(store, keys, self._view)
        planner = PoolPlanner(store, keys, applications, self._view, self._auto_pools)
        pools = AutoPoolActivities(planner, self.writers)
        self._dispatcher = ApplicationDispatcher(planner, self._client)
        self._bindings = BindingDispatcher(store, keys, self._client, self._view.faults)
        self._provider_activities: ProviderActivities | None = None
        if provider is not None:
            self._provider_activities = ProviderActivities(
                store, keys, self.writers, ProviderClient(provider), cool_down_s=cool_down_s
            )
        self._archive = sources.archive
        self._drains = sources.drains
        activities: list[Callable[..., Any]] = [
            scan.observe,
            scan.release,
            self.pods.reclaim,
            retirement.step,
            retirement.reinstate,
            quarantine.check,
            quarantine.probe,
            quarantine.lift,
            pools.reconcile,
        ]
        self.worker = _WatchedWorker(
            store,
            keys,
            self._registry(activities),
            name=name,
            options=options,
            telemetry=telemetry,
            faults=self._view.faults,
        )

    def _registry(self, activities: list[Callable[..., Any]]) -> Registry:
        """Build the registry of the jobs that are on. Appends to ``activities``."""
        workflows: list[type[Any]] = [
            ReclaimScan,
            ReclaimPod,
            PoolRetirement,
            SubnetRetirement,
            ProbeQuarantine,
            AutoPools,
        ]
        if self._provider_activities is not None:
            workflows.append(ExternalBinding)
            activities.extend(self._provider_activities.all)
        if self._archive is not None:
            workflows += [ArchiveLog, PruneArchive]
            activities.extend(self._archive.all)
        if self._drains is not None:
            workflows.append(SriovDrains)
            activities.extend(self._drains.all)
        return Registry(workflows, activities)

    @property
    def reclaims(self) -> bool:
        """Whether reclaiming is switched on."""
        return self._settings.enabled

    @property
    def makes_pools(self) -> bool:
        """Whether automatic pools are switched on."""
        return self._auto_pools.enabled

    async def run(self) -> None:
        """Work until cancelled, then close. Raises as ``work``."""
        try:
            await self.work()
        finally:
            await self.close()

    async def work(self) -> None:
        """Work until cancelled. Raises errors that are not retried."""
        await self._start_view()
        self.worker.start()
        try:
            await self.worker.ready()
            await retry_unavailable()(self._start_executions)
            await self.worker.ended()
        finally:
            await self.worker.close()

    async def close(self) -> None:
        """Close everything that ``work`` uses."""
        opened = Teardown()
        opened.push("the jobs' client", self._client.close)
        if self._provider_activities is not None:
            opened.push("the network provider", self._provider_activities.close)
        opened.push("the jobs' view", self._view.close)
        opened.push("the jobs' writers", self.writers.close)
        await opened.close()

    async def _start_view(self) -> None:
        """Start the view. Wait for etcd without a time limit."""
        if not self._view_started.is_set():
            backoff = Backoff(VIEW_PAUSE_S, VIEW_PAUSE_S_MAX)
            await retry_until_done(self._view.start, "the start of the configuration view", backoff)
            self._view_started.set()

    async def lead(self) -> None:
        """Run ``leader_tasks`` until cancelled. Raises errors that are not retried."""
        until_cancelled = asyncio.Event().wait()  # there may be no tasks
        await until_all(until_cancelled, *(task.run() for task in self.leader_tasks()))

    def leader_tasks(self) -> list[TaskSpec]:
        """The leader's tasks."""
        tasks = []
        if self._settings.enabled:
            tasks.append(TaskSpec("pod-listener", self.listener.run, RESTARTS_MAX))
        if self._auto_pools.enabled:
            tasks.append(self._leader_task("pool-dispatcher", self._dispatcher.run))
        if self._provider_activities is not None:
            tasks.append(self._leader_task("binding-dispatcher", self._bindings.run))
        return tasks

    def _leader_task(self, name: str, run: Callable[[], Coroutine[Any, Any, object]]) -> TaskSpec:
        async def run_with_view() -> None:
            await self._view_started.wait()
            await run()

        return TaskSpec(name, run_with_view, RESTARTS_MAX)

    async def _start_executions(self) -> None:
        schedules = Schedules(self._client)
        if self._archive is not None:
            await self._report_unreadable(
                self._client.start(ArchiveLog, id=ARCHIVE_ID, options=USE_EXISTING)
            )
            await self._report_unreadable(schedules.ensure(PRUNES_ID, PRUNE_SCHEDULE))
        else:  # no worker can run the executions of the schedule
            with suppress(ExecutionNotFound):
                await self._report_unreadable(
                    schedules.handle(PRUNES_ID).delete("the archive is off")
                )
        await self._report_unreadable(self._start_scan())
        await self._report_unreadable(self._start_drains())

    async def _report_unreadable(self, work: Awaitable[object]) -> None:
        """Await ``work``. An unreadable execution is reported, not raised."""
        try:
            await work
        except LogCorrupt as error:
            key = error.subject.removeprefix(self._keys.root.decode())
            self._view.faults.report(OPEN_HEADS.name, key, error)

    async def _start_scan(self) -> None:
        if not self._settings.enabled:
            with suppress(ExecutionNotFound):
                await self._client.cancel(WORKFLOW_ID, "reclaiming was switched off")
            return
        settings = scan_settings(self._settings)
        handle = await self._client.signal_with_start(
            ReclaimScan, settings, id=WORKFLOW_ID, signal=SETTINGS_SIGNAL, signal_args=[settings]
        )
        _log.info("the reclaim scan runs", extra={"fields": {"run": handle.run_id}})

    async def _start_drains(self) -> None:
        if self._drains is None:
            with suppress(ExecutionNotFound):
                await self._client.cancel(DRAINS_ID, "drains for virtual functions are off")
            return
        await self._client.signal_with_start(
            SriovDrains,
            self._drain_settings,
            id=DRAINS_ID,
            signal=DRAIN_SETTINGS,
            signal_args=[self._drain_settings],
        )

    async def _scan_now(self) -> None:
        settings = scan_settings(self._settings)
        scan = RequiredExecution(ReclaimScan, WORKFLOW_ID, (settings,), SCAN_NOW)
        await ensure_execution(self._client, scan)


class _WatchedWorker(Worker):
    """A worker whose error another task can await."""

    async def run(self) -> None:
        self._end: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        try:
            await super().run()
        except Exception as error:
            self._end.set_exception(error)
            raise

    async def ended(self) -> None:
        """Wait until an error ends the worker, and raise this error. Call after ``ready``."""
        await self._end

"""The scripted cluster of ``tests/core/domain/reclaim`` with the workflows of reclaim."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection

from core.domain.evolution import Ledger
from core.domain.reclaim.decision_table import ReclaimDeadline
from core.domain.reclaim.evidence import ClusterLookup, Moment, Observer
from core.domain.reclaim.settings import ReclaimSettings
from tests.core.domain.reclaim.reclaim_harness import ReclaimHarness
from tests.core.domain.reclaim.scripted_cluster import ObservedPod, ScriptedCluster, seconds
from workflows.api.definitions import Registry
from workflows.jobs.reclaim.pod import (
    CHANGED_SIGNAL,
    ChangeListener,
    DeadlineCause,
    ObservedChange,
    PodActivities,
    ReclaimPod,
    ReclaimResult,
    workflow_id,
)
from workflows.jobs.reclaim.reclaim_context import PodChange, ReclaimContext, observer_of
from workflows.jobs.reclaim.scan import ReclaimScan, ScanSettings
from workflows.jobs.reclaim.scan_activities import ReclaimActivities
from workflows.jobs.shard_writers import Releases, ShardWriters
from workflows.model.payloads import Payload
from workflows.testing.environment import WorkflowEnvironment


class ScriptedFacts:
    """The lists of the scripted API server. If ``fault`` is set, ``facts`` raises it."""

    def __init__(self, cluster: ScriptedCluster) -> None:
        self.cluster = cluster
        self.fault: Exception | None = None
        self.reads = 0

    async def facts(self, ledger: Ledger, claims_read: Moment) -> ClusterLookup:
        self.reads += 1
        if self.fault is not None:
            raise self.fault
        return self.cluster.snapshot(claims_read)

    async def deleted_nodes(self, nodes: Collection[str]) -> frozenset[str]:
        return frozenset(nodes) - self.cluster.nodes.keys()

    async def changes(self) -> AsyncIterator[PodChange]:
        """Yield nothing: a script passes changes to ``ChangeListener.handle``."""
        no_changes: tuple[PodChange, ...] = ()
        for change in no_changes:
            yield change


class ReclaimJobHarness(ReclaimHarness):
    """A cluster with running workflows. ``started`` maps workflow ids to deadlines."""

    def __init__(self, settings: ReclaimSettings = ReclaimSettings()) -> None:
        super().__init__()
        self.watching = False  # a test passes watch events to ``report``
        self.settings = settings
        self.facts = ScriptedFacts(self.cluster)
        self.observer = self.new_observer()
        self.started: dict[str, ReclaimDeadline] = {}
        self.is_prepared = False

    def new_observer(self, *, ahead_s: float = 0.0) -> Observer:
        return observer_of(lambda: self.cluster.now_s + ahead_s, lambda: self.cluster.now_s)

    async def start_scan(self, settings: ScanSettings = ScanSettings()) -> None:
        await self.prepare()
        self.handle = await self.environment.start(ReclaimScan, settings, workflow_id="reclaim")
        await self.environment.settle()

    async def prepare(self) -> None:
        """Open the environment; start no execution."""
        self.writers = ShardWriters(self.store, (await self.agent("operator")).keys)
        context = await self._context()
        self._scan = ReclaimActivities(context, self._start_pod)
        self._pods = PodActivities(context)
        self.listener = ChangeListener(context, self._start_pod, self._scan_nothing)
        registry = Registry(
            [ReclaimScan, ReclaimPod],
            [self._scan.observe, self._scan.release, self._pods.reclaim],
        )
        start_ms = round(self.cluster.now_s * 1000)
        self.environment = WorkflowEnvironment(registry, replays=True, start_ms=start_ms)
        await self.environment.open()
        self.is_prepared = True

    async def take_settings(self) -> None:
        """Give the current settings and observer to the activities and the listener."""
        self._scan._context = self._pods._context = context = await self._context()
        self.listener = ChangeListener(context, self._start_pod, self._scan_nothing)

    async def _context(self) -> ReclaimContext:
        keys = (await self.agent("operator")).keys
        releases = Releases(self.store, keys, self.writers, cool_down_s=0)
        return ReclaimContext(self.store, keys, self.facts, self.settings, self.observer, releases)

    async def tick(self, text: str) -> str:
        """Advance the clocks of the cluster and of the workflows together."""
        remaining_s = seconds(text)
        while remaining_s > 0:
            step = min(remaining_s, 1.0)
            remaining_s -= step
            self.cluster.now_s += step
            await self.environment.advance(step)
        return ""

    async def script(self, text: str) -> None:
        for line in text.strip().splitlines():
            answer = await self.play(line.strip())
            assert "Error" not in answer, answer

    async def status(self) -> dict[str, Payload]:
        result: dict[str, Payload] = await self.handle.query("status")
        return result

    async def claimed(self) -> set[str]:
        return set((await (await self.agent("operator")).read_ledger()).claims)

    async def report(self, event: ObservedPod) -> None:
        """Pass a watch event to the listener."""
        change = PodChange(event.pod, event.report)
        await self.listener.handle(ObservedChange(change, self.observer.moment()))

    async def outcome(self, workflow_id: str) -> ReclaimResult:
        result: ReclaimResult = await self.environment.handle(workflow_id).result()
        return result

    async def close(self) -> None:
        if self.is_prepared:
            await self.environment.close()
            await self.writers.close()
        await super().close()

    async def _start_pod(
        self, deadline: ReclaimDeadline, origin: DeadlineCause = DeadlineCause()
    ) -> None:
        name = workflow_id(deadline)
        if await self.environment.is_open(name):
            await self.environment.handle(name).signal(CHANGED_SIGNAL, deadline)
            return
        self.started[name] = deadline
        retry_s = 5.0
        await self.environment.start(ReclaimPod, deadline, retry_s, workflow_id=name)

    async def _scan_nothing(self) -> None:
        """Ignore a scan request of the listener."""

"""The scripted cluster of ``tests/reclaim`` under the workflow: its looks, its time, its releases.

Scripts say what happens to Pods; nobody says when to scan. Time is skipped by the environment, and
the cluster's clock follows it.
"""

from __future__ import annotations

from core.domain.evolution import Ledger
from core.domain.reclaim.cluster import ClusterFacts
from core.domain.reclaim.settings import ReclaimSettings
from tests.reclaim.scripted import Cluster, seconds
from tests.reclaim.stage import Stage
from workflows.api.definitions import Registry
from workflows.jobs.reclaim import Orders, ReclaimScan
from workflows.jobs.scanning import ReclaimActivities
from workflows.model.payloads import Payload
from workflows.testing.environment import Environment


class ScriptedFacts:
    """What the scripted API server lists; it can be out of order for a while."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.fault: Exception | None = None
        self.asked = 0

    async def facts(self, ledger: Ledger, claims_read_s: float) -> ClusterFacts:
        self.asked += 1
        if self.fault is not None:
            raise self.fault
        return self.cluster.snapshot(claims_read_s)


class JobStage(Stage):
    """One cluster with the workflow at work in it. ``tick`` lets time go on."""

    def __init__(self, settings: ReclaimSettings = ReclaimSettings()) -> None:
        super().__init__()
        self.watching = False
        self.settings = settings
        self.facts = ScriptedFacts(self.cluster)
        self.activities: ReclaimActivities | None = None

    async def begin(self, orders: Orders = Orders()) -> None:
        """Start the execution; the first look is at once."""
        keys = (await self.agent("operator")).keys
        self.activities = ReclaimActivities(
            self.store, keys, self.facts, self.settings, now_s=self._now_s, cool_down_s=0
        )
        registry = Registry([ReclaimScan], [self.activities.observe, self.activities.release])
        start_ms = round(self.cluster.now_s * 1000)
        self.environment = Environment(registry, replays=True, start_ms=start_ms)
        self.handle = self.environment.start(ReclaimScan, orders, workflow_id="reclaim")
        await self.environment.settle()

    async def tick(self, text: str) -> str:
        rest = seconds(text)
        while rest > 0:
            step = min(rest, 1.0)
            rest -= step
            self.cluster.now_s += step
            await self.environment.advance(step)
        return ""

    async def script(self, text: str) -> None:
        """Play commands, one a line."""
        for line in text.strip().splitlines():
            answer = await self.play(line.strip())
            assert "Error" not in answer, answer

    async def status(self) -> dict[str, Payload]:
        """What the execution answers."""
        found: dict[str, Payload] = await self.handle.query("status")
        return found

    async def held(self) -> set[str]:
        """Addresses that are claimed."""
        return set((await (await self.agent("operator")).truth()).claims)

    async def close(self) -> None:
        if self.activities is not None:
            await self.activities.close()
        await super().close()

    def _now_s(self) -> float:
        return self.cluster.now_s

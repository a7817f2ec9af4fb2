"""A scripted cluster, and the drain execution on a clock that skips waits."""

from __future__ import annotations

from core.errors import ApiUnavailable
from workflows.api.definitions import Registry
from workflows.jobs.node_drain.activities import DrainActivities
from workflows.jobs.node_drain.drainer import DrainObservation, bounded_observation
from workflows.jobs.node_drain.drains import WORKFLOW_ID, DrainSettings, SriovDrains
from workflows.testing.environment import WorkflowEnvironment
from workflows.testing.handle import TimeSkippingHandle


class ScriptedCluster:
    """A ``NodeDrainer`` that records its changes in ``steps``.

    ``pods``: node -> Pods to evict. ``failures``: how many of the next observations fail.
    """

    def __init__(self, **pods: list[str]) -> None:
        self.pods = pods
        self.not_evictable: set[str] = set()
        self.cordoned: list[str] = []
        self.steps: list[str] = []
        self.failures = 0
        self.failing_nodes: set[str] = set()

    async def observe(self) -> DrainObservation:
        if self.failures:
            self.failures -= 1
            raise ApiUnavailable("the API server does not answer")
        requests = {node: tuple(pods) for node, pods in self.pods.items() if pods}
        return bounded_observation(requests, self.cordoned)

    async def cordon(self, node: str) -> None:
        self.steps.append(f"cordon {node}")
        self.cordoned.append(node)

    async def evict(self, node: str, pods: tuple[str, ...]) -> tuple[str, ...]:
        self._raise_if_failing(node)
        self.steps.append(f"evict {' '.join(pods)}")
        self.pods[node] = [pod for pod in self.pods[node] if pod in self.not_evictable]
        return tuple(f"{pod}: a PodDisruptionBudget" for pod in self.pods[node])

    async def uncordon(self, node: str) -> None:
        self._raise_if_failing(node)
        self.steps.append(f"uncordon {node}")
        self.cordoned.remove(node)

    def _raise_if_failing(self, node: str) -> None:
        if node in self.failing_nodes:
            raise ApiUnavailable(f"node {node} cannot be changed")


class DrainHarness:
    """The execution of ``SriovDrains`` over a scripted cluster."""

    def __init__(self, cluster: ScriptedCluster) -> None:
        registry = Registry([SriovDrains], list(DrainActivities(cluster).all))
        self.environment = WorkflowEnvironment(registry, replays=True)

    async def start(self, max_unavailable: int = 1) -> TimeSkippingHandle:
        await self.environment.open()
        handle = await self.environment.start(
            SriovDrains, DrainSettings(max_unavailable), workflow_id=WORKFLOW_ID
        )
        await self.environment.settle()
        return handle

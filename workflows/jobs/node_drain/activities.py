"""The activities of node drains. Each may be repeated."""

from __future__ import annotations

from collections.abc import Callable

from workflows.api import activity
from workflows.jobs.node_drain.drainer import DrainObservation, NodeDrainer


class DrainActivities:
    """The activities of one cluster. They raise ApiError."""

    def __init__(self, drainer: NodeDrainer) -> None:
        self._drainer = drainer

    @property
    def all(self) -> tuple[Callable[..., object], ...]:
        """The activities, for the registry of a worker."""
        return self.observe, self.cordon, self.evict, self.uncordon

    @activity.defn(name="sriov-drain-observe")
    async def observe(self) -> DrainObservation:
        """The nodes whose agents request a drain, and the nodes that are cordoned for a drain."""
        return await self._drainer.observe()

    @activity.defn(name="sriov-drain-cordon")
    async def cordon(self, node: str) -> None:
        """Cordon a node."""
        await self._drainer.cordon(node)

    @activity.defn(name="sriov-drain-evict")
    async def evict(self, node: str, pods: tuple[str, ...]) -> tuple[str, ...]:
        """Evict Pods. Returns a reason for each Pod that stays, such as a PodDisruptionBudget."""
        return await self._drainer.evict(node, pods)

    @activity.defn(name="sriov-drain-uncordon")
    async def uncordon(self, node: str) -> None:
        """Uncordon a node."""
        await self._drainer.uncordon(node)

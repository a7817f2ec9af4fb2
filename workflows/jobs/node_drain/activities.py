"""The idempotent activities of node drains."""

from __future__ import annotations

from collections.abc import Callable

from workflows.api import activity
from workflows.jobs.node_drain.drainer import DrainObservation, NodeDrainer


class DrainActivities:
    """The activities of node drains. They raise ApiError."""

    def __init__(self, drainer: NodeDrainer) -> None:
        self._drainer = drainer

    @property
    def all(self) -> tuple[Callable[..., object], ...]:
        """All activities."""
        return self.observe, self.cordon, self.evict, self.uncordon

    @activity.defn(name="sriov-drain-observe")
    async def observe(self) -> DrainObservation:
        """See ``NodeDrainer.observe``."""
        return await self._drainer.observe()

    @activity.defn(name="sriov-drain-cordon")
    async def cordon(self, node: str) -> None:
        """Cordon a node."""
        await self._drainer.cordon(node)

    @activity.defn(name="sriov-drain-evict")
    async def evict(self, node: str, pods: tuple[str, ...]) -> tuple[str, ...]:
        """See ``NodeDrainer.evict``."""
        return await self._drainer.evict(node, pods)

    @activity.defn(name="sriov-drain-uncordon")
    async def uncordon(self, node: str) -> None:
        """Uncordon a node."""
        await self._drainer.uncordon(node)

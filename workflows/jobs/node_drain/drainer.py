"""What drains need of a cluster: requests of agents, nodes, evictions."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from core.domain.sriov.drain_plan import DrainRequest


class DrainObservation(NamedTuple):
    """The nodes that need a drain, and those that an earlier step has cordoned."""

    requests: tuple[DrainRequest, ...] = ()
    cordoned: tuple[str, ...] = ()


class NodeDrainer(Protocol):
    """The cluster. Every method raises ApiError and may be repeated."""

    async def observe(self) -> DrainObservation:
        """Read requests and cordoned nodes."""
        ...

    async def cordon(self, node: str) -> None:
        """Make a node unschedulable and mark that; one that is gone is fine."""
        ...

    async def evict(self, node: str, pods: tuple[str, ...]) -> tuple[str, ...]:
        """Request the eviction of Pods of this node; why those that stay do."""
        ...

    async def uncordon(self, node: str) -> None:
        """Undo ``cordon``; a node that is gone is fine."""
        ...

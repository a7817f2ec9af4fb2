"""The interface between node drains and the cluster."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Final, NamedTuple, Protocol

from core.domain.sriov.drain_plan import DrainRequest

OBSERVATION_BYTES_MAX: Final = 48 * 1024
"""With this limit, an observation and the drain records fit into one payload as JSON."""

PODS_OBSERVED_MAX: Final = 64
"""Maximum number of a node's Pods in an observation. Later observations list further Pods."""

_NODE_BYTES: Final = 40
"""Bytes of a node in an observation and a drain record, without the names."""

_POD_BYTES: Final = 3
"""Bytes of quotes and comma around a Pod's name."""


class DrainObservation(NamedTuple):
    """The nodes that need a drain, and the nodes that are cordoned for a drain.

    ``further_cordoned`` counts cordoned nodes that did not fit. ``requests_truncated``: some
    requests did not fit.
    """

    requests: tuple[DrainRequest, ...] = ()
    cordoned: tuple[str, ...] = ()
    further_cordoned: int = 0
    requests_truncated: bool = False


class NodeDrainer(Protocol):
    """Access to the nodes. All methods raise ApiError and are idempotent."""

    async def observe(self) -> DrainObservation:
        """Read the agents' drain requests, and the nodes that ``cordon`` has marked."""
        ...

    async def cordon(self, node: str) -> None:
        """Make a node unschedulable and mark it. No error if the node does not exist."""
        ...

    async def evict(self, node: str, pods: tuple[str, ...]) -> tuple[str, ...]:
        """Evict Pods. Returns a reason, such as a PodDisruptionBudget, for each Pod that stays."""
        ...

    async def uncordon(self, node: str) -> None:
        """Undo ``cordon``. No error if the node does not exist."""
        ...


def bounded_observation(
    requests: Mapping[str, Sequence[str]], cordoned: Collection[str]
) -> DrainObservation:
    """An observation with as many nodes and Pods as fit. ``requests``: node -> Pods to evict.

    Cordoned nodes come first. Only Pods of cordoned nodes are listed.
    """
    order = sorted(
        {*requests, *cordoned}, key=lambda node: (node in requests, node not in cordoned, node)
    )
    bytes_left = OBSERVATION_BYTES_MAX
    listed: list[str] = []
    for node in order:
        size = 2 * len(node) + _NODE_BYTES + sum(map(len, requests.get(node, ())[:1]))
        if size > bytes_left:
            break
        bytes_left -= size
        listed.append(node)
    pods = {node: requests[node] if node in cordoned else () for node in listed if node in requests}
    listed_cordoned = sorted(node for node in listed if node in cordoned)
    return DrainObservation(
        tuple(DrainRequest(node, names) for node, names in _share_pods(pods, bytes_left)),
        tuple(listed_cordoned),
        len(cordoned) - len(listed_cordoned),
        len(pods) < len(requests),
    )


def _share_pods(
    pods: Mapping[str, Sequence[str]], bytes_left: int
) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Give each node its first Pod, then further Pods in turn while bytes are left."""
    counts = {node: len(names[:1]) for node, names in pods.items()}
    for number in range(1, PODS_OBSERVED_MAX):
        for node, names in pods.items():
            if counts[node] == number < len(names):
                size = len(names[number]) + _POD_BYTES
                if size <= bytes_left:
                    bytes_left -= size
                    counts[node] += 1
    for node, names in pods.items():
        yield node, tuple(names[: counts[node]])

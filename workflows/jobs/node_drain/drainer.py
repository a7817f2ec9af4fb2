"""The interface between node drains and the cluster: drain requests, cordons and evictions."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Final, NamedTuple, Protocol

from core.domain.sriov.drain_plan import DrainRequest

OBSERVATION_BYTES_MAX: Final = 48 * 1024
"""Maximum bytes of an observation in JSON.

Observation and drain records must fit into one payload.
"""

PODS_OBSERVED_MAX: Final = 64
"""Maximum number of Pods of one node in an observation. Later observations list the rest."""

_NODE_BYTES: Final = 40
"""Bytes of a node in observation and drain records, without the names of the node and Pods."""

_POD_BYTES: Final = 3
"""Bytes that a Pod adds to an observation, without its name: quotes and a comma."""


class DrainObservation(NamedTuple):
    """The nodes that need a drain, and the nodes that are cordoned for a drain.

    ``further_cordoned``: the number of cordoned nodes that did not fit into ``cordoned``.
    ``requests_truncated``: some nodes that need a drain did not fit into ``requests``.
    """

    requests: tuple[DrainRequest, ...] = ()
    cordoned: tuple[str, ...] = ()
    further_cordoned: int = 0
    requests_truncated: bool = False


class NodeDrainer(Protocol):
    """The cluster. Every method raises ApiError and may be repeated."""

    async def observe(self) -> DrainObservation:
        """Read the agents' requests, and the nodes that ``cordon`` has marked."""
        ...

    async def cordon(self, node: str) -> None:
        """Make a node unschedulable, and mark it. No error if the node does not exist."""
        ...

    async def evict(self, node: str, pods: tuple[str, ...]) -> tuple[str, ...]:
        """Request the eviction of Pods of this node. Returns a text for each Pod that stays."""
        ...

    async def uncordon(self, node: str) -> None:
        """Undo ``cordon``. No error if the node does not exist."""
        ...


def bounded_observation(
    requests: Mapping[str, Sequence[str]], cordoned: Collection[str]
) -> DrainObservation:
    """An observation with as many nodes and Pods as fit. ``requests``: node -> Pods to evict.

    Cordoned nodes without a request come first, then cordoned nodes with a request, then all other
    nodes. Only Pods of cordoned nodes are listed: one Pod of each node, then more Pods if they fit.
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
        tuple(DrainRequest(node, some) for node, some in _shares(pods, bytes_left)),
        tuple(listed_cordoned),
        len(cordoned) - len(listed_cordoned),
        len(pods) < len(requests),
    )


def _shares(
    pods: Mapping[str, Sequence[str]], bytes_left: int
) -> Iterator[tuple[str, tuple[str, ...]]]:
    """The first Pod of each node, then further Pods of each node in turn while bytes are left."""
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

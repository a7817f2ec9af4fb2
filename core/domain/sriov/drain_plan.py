"""Plan which nodes are cordoned, drained and uncordoned to change their virtual functions. Pure.

Only Pods that use virtual functions to be changed are evicted. If these Pods are not gone within
``DRAIN_S_MAX``, the drain is given up: the node is uncordoned, and drained again later. So a Pod
that cannot be evicted does not keep the node out of service. Nodes that were never drained come
first, then nodes whose drain was given up longest ago.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from itertools import accumulate
from typing import Final, NamedTuple, TypeAlias

DRAIN_S_MAX: Final = 900.0
"""Seconds until a drain is given up and the node is uncordoned unchanged."""

RETRY_S: Final = 1_800.0
"""Seconds after a drain was given up until the node is drained again."""

UNSEEN_BYTES_MAX: Final = 12 * 1024
"""Maximum bytes of records of nodes that wait for a new drain but have no request."""

_RECORD_BYTES: Final = 40
"""Bytes of a record in JSON, without the name of the node."""


class DrainRequest(NamedTuple):
    """A node that needs a drain, and the Pods to evict (``namespace/name``)."""

    node: str
    pods: tuple[str, ...] = ()


class DrainRecord(NamedTuple):
    """When a drain began, and when it was given up (0: not given up). Unix seconds."""

    began_s: float
    given_up_s: float = 0.0


class CordonNode(NamedTuple):
    """Make a node unschedulable."""

    node: str


class EvictPods(NamedTuple):
    """Evict these Pods of a node."""

    node: str
    pods: tuple[str, ...]


class UncordonNode(NamedTuple):
    """Make a node schedulable again, unless it was unschedulable before the drain."""

    node: str


DrainStep: TypeAlias = CordonNode | EvictPods | UncordonNode


class DrainPlan(NamedTuple):
    """The steps to make now, and the records by node for the next plan."""

    steps: tuple[DrainStep, ...]
    records: Mapping[str, DrainRecord]


def plan_drains(
    requests: Collection[DrainRequest],
    cordoned: Collection[str],
    records: Mapping[str, DrainRecord],
    now_s: float,
    max_unavailable: int,
    further_cordoned: int = 0,
    *,
    requests_truncated: bool = False,
) -> DrainPlan:
    """Plan the next steps. ``cordoned``: nodes that steps of earlier plans have cordoned.

    ``max_unavailable`` 0: every cordoned node is uncordoned, and no node is drained.
    ``further_cordoned``: the number of cordoned nodes that are left out of ``cordoned``.
    ``requests_truncated``: requests are left out, so records of nodes without a request are kept.
    """
    needed = {request.node: request for request in requests if max_unavailable}
    given_up = {
        node: record for node, record in records.items() if node in needed and record.given_up_s
    }
    if requests_truncated and max_unavailable:
        given_up = _unseen(records, needed, cordoned) | given_up
    steps: list[DrainStep] = []
    draining: dict[str, DrainRecord] = {}
    for node in sorted(cordoned):
        if node not in needed:
            steps.append(UncordonNode(node))
            continue
        record = records.get(node, DrainRecord(now_s))
        if record.given_up_s or now_s - record.began_s >= DRAIN_S_MAX:
            steps.append(UncordonNode(node))
            given_up[node] = record._replace(given_up_s=record.given_up_s or now_s)
            continue
        draining[node] = record
        if needed[node].pods:
            steps.append(EvictPods(node, needed[node].pods))
    for node in _next_nodes(needed, cordoned, given_up, now_s):
        if len(draining) + further_cordoned >= max_unavailable:
            break
        steps.append(CordonNode(node))
        draining[node] = DrainRecord(now_s)
        given_up.pop(node, None)
    return DrainPlan(tuple(steps), given_up | draining)


def _unseen(
    records: Mapping[str, DrainRecord], needed: Collection[str], cordoned: Collection[str]
) -> dict[str, DrainRecord]:
    """The newest records of nodes without a request, up to ``UNSEEN_BYTES_MAX``."""
    unseen = sorted(
        (-record.given_up_s, node)
        for node, record in records.items()
        if record.given_up_s and node not in needed and node not in cordoned
    )
    ends = accumulate(len(node) + _RECORD_BYTES for _, node in unseen)
    return {
        node: records[node]
        for (_, node), end in zip(unseen, ends, strict=True)
        if end <= UNSEEN_BYTES_MAX
    }


def _next_nodes(
    needed: Collection[str],
    cordoned: Collection[str],
    given_up: Mapping[str, DrainRecord],
    now_s: float,
) -> Iterator[str]:
    for node in sorted(needed, key=lambda node: (_given_up_s(node, given_up), node)):
        waits = node in given_up and now_s - given_up[node].given_up_s < RETRY_S
        if node not in cordoned and not waits:
            yield node


def _given_up_s(node: str, given_up: Mapping[str, DrainRecord]) -> float:
    return given_up[node].given_up_s if node in given_up else 0.0

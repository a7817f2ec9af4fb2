"""Which nodes are cordoned, drained and uncordoned, so that their virtual functions can change.

Pure. Only Pods that keep a change back are evicted. A node that is not free within ``DRAIN_S_MAX``
is uncordoned and gets another try later, so that a Pod that cannot be evicted keeps no node out
of service. Nodes that were never tried come first, then those that were given up longest ago. A
node whose request has ended is uncordoned, also if the plan has no record of it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Final, NamedTuple, TypeAlias

DRAIN_S_MAX: Final = 900.0
"""Seconds that a node is cordoned before it goes back into service unchanged."""

RETRY_S: Final = 1_800.0
"""Seconds until a node that was not free in time is drained again."""


class DrainRequest(NamedTuple):
    """A node that needs a drain, and the Pods (``namespace/name``) that keep its change back."""

    node: str
    pods: tuple[str, ...] = ()


class DrainRecord(NamedTuple):
    """When a drain began, and when it was given up; 0: it was not. Unix seconds."""

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
    """Make a node schedulable, unless it was not before the drain."""

    node: str


DrainStep: TypeAlias = CordonNode | EvictPods | UncordonNode


class DrainPlan(NamedTuple):
    """The steps now, and the records to keep by node."""

    steps: tuple[DrainStep, ...]
    records: Mapping[str, DrainRecord]


def plan_drains(
    requests: Collection[DrainRequest],
    cordoned: Collection[str],
    records: Mapping[str, DrainRecord],
    now_s: float,
    max_unavailable: int,
    unlisted: int = 0,
) -> DrainPlan:
    """The plan. ``cordoned``: nodes that this plan's earlier steps have cordoned.

    ``max_unavailable`` 0: every cordoned node is uncordoned, and none is drained. ``unlisted``:
    the number of further cordoned nodes, which a later plan has.
    """
    asking = {request.node: request for request in requests if max_unavailable}
    later = {
        node: record for node, record in records.items() if node in asking and record.given_up_s
    }
    steps: list[DrainStep] = []
    draining: dict[str, DrainRecord] = {}
    for node in sorted(cordoned):
        if node not in asking:
            steps.append(UncordonNode(node))
            continue
        record = records.get(node, DrainRecord(now_s))
        if record.given_up_s or now_s - record.began_s >= DRAIN_S_MAX:
            steps.append(UncordonNode(node))
            later[node] = record._replace(given_up_s=record.given_up_s or now_s)
            continue
        draining[node] = record
        if asking[node].pods:
            steps.append(EvictPods(node, asking[node].pods))
    for node in _next_nodes(asking, cordoned, later, now_s):
        if len(draining) + unlisted >= max_unavailable:
            break
        steps.append(CordonNode(node))
        draining[node] = DrainRecord(now_s)
        later.pop(node, None)
    return DrainPlan(tuple(steps), later | draining)


def _next_nodes(
    asking: Collection[str],
    cordoned: Collection[str],
    later: Mapping[str, DrainRecord],
    now_s: float,
) -> Iterator[str]:
    for node in sorted(asking, key=lambda node: (_given_up_s(node, later), node)):
        waits = node in later and now_s - later[node].given_up_s < RETRY_S
        if node not in cordoned and not waits:
            yield node


def _given_up_s(node: str, later: Mapping[str, DrainRecord]) -> float:
    return later[node].given_up_s if node in later else 0.0

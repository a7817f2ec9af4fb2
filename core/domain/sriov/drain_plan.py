"""Plan which nodes are cordoned, drained and uncordoned to change virtual functions. Pure.

Only Pods whose virtual functions must change are evicted. If these Pods are not gone within
``DRAIN_S_MAX``, the drain is given up: one Pod could otherwise keep the node out of service. The
node is uncordoned, and drained again later. Nodes without a given-up drain come first.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from itertools import accumulate
from typing import Final, NamedTuple, TypeAlias

DRAIN_S_MAX: Final = 900.0
"""Seconds until a drain is given up."""

RETRY_S: Final = 1_800.0
"""Seconds from the end of a given-up drain to the next drain of the node."""

RECORDS_WITHOUT_REQUEST_BYTES_MAX: Final = 12 * 1024
"""The records of given-up drains that are kept for nodes without a request."""

_RECORD_BYTES: Final = 40
"""Bytes of a record in JSON, without the name of the node."""


class DrainRequest(NamedTuple):
    """A node that needs a drain, and the Pods to evict (``namespace/name``)."""

    node: str
    pods: tuple[str, ...] = ()


class DrainRecord(NamedTuple):
    """When a drain began and was given up, in Unix seconds (0: not given up)."""

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
    """Make a node schedulable, unless it was unschedulable before the drain."""

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
    """Plan the next steps. ``cordoned``: nodes that earlier plans have cordoned.

    ``max_unavailable`` 0: every cordoned node is uncordoned, and no node is drained.
    ``further_cordoned``: how many further nodes earlier plans have cordoned.
    ``requests_truncated``: some requests are missing, so records of nodes without a request are
    kept.
    """
    requests_by_node = {request.node: request for request in requests if max_unavailable}
    given_up_records = {
        node: record
        for node, record in records.items()
        if node in requests_by_node and record.given_up_s
    }
    if requests_truncated and max_unavailable:
        without_request = _records_without_request(records, requests_by_node, cordoned)
        given_up_records = without_request | given_up_records
    steps: list[DrainStep] = []
    draining_records: dict[str, DrainRecord] = {}
    for node in sorted(cordoned):
        if node not in requests_by_node:
            steps.append(UncordonNode(node))
            continue
        record = records.get(node, DrainRecord(now_s))
        if record.given_up_s or now_s - record.began_s >= DRAIN_S_MAX:
            steps.append(UncordonNode(node))
            given_up_records[node] = record._replace(given_up_s=record.given_up_s or now_s)
            continue
        draining_records[node] = record
        if requests_by_node[node].pods:
            steps.append(EvictPods(node, requests_by_node[node].pods))
    for node in _next_nodes(requests_by_node, cordoned, given_up_records, now_s):
        if len(draining_records) + further_cordoned >= max_unavailable:
            break
        steps.append(CordonNode(node))
        draining_records[node] = DrainRecord(now_s)
        given_up_records.pop(node, None)
    return DrainPlan(tuple(steps), given_up_records | draining_records)


def _records_without_request(
    records: Mapping[str, DrainRecord],
    nodes_with_request: Collection[str],
    cordoned: Collection[str],
) -> dict[str, DrainRecord]:
    """The newest records of given-up drains, up to ``RECORDS_WITHOUT_REQUEST_BYTES_MAX``."""
    without_request = sorted(
        (-record.given_up_s, node)
        for node, record in records.items()
        if record.given_up_s and node not in nodes_with_request and node not in cordoned
    )
    ends = accumulate(len(node) + _RECORD_BYTES for _, node in without_request)
    return {
        node: records[node]
        for (_, node), end in zip(without_request, ends, strict=True)
        if end <= RECORDS_WITHOUT_REQUEST_BYTES_MAX
    }


def _next_nodes(
    nodes: Collection[str],
    cordoned: Collection[str],
    given_up_records: Mapping[str, DrainRecord],
    now_s: float,
) -> Iterator[str]:
    for node in sorted(nodes, key=lambda node: (_given_up_s(node, given_up_records), node)):
        is_waiting = (
            node in given_up_records and now_s - given_up_records[node].given_up_s < RETRY_S
        )
        if node not in cordoned and not is_waiting:
            yield node


def _given_up_s(node: str, given_up_records: Mapping[str, DrainRecord]) -> float:
    return given_up_records[node].given_up_s if node in given_up_records else 0.0

"""Facts without Kubernetes: Pods are unknown, except for deletions that an operator reports.

There is no listing of Pods, so that no address is released for a missing Pod. An operator can
report that a Pod is gone, or a node with all of its Pods; one such report is enough.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from core.domain.evolution import EndpointKey, Ledger
from core.domain.fixed.owners import MissingOwner
from core.domain.fixed.records import UNLISTED, RecordOwners
from core.domain.reclaim.cluster import NodeState, PodState
from core.domain.reclaim.evidence import Moment

UNSEEN: Final = "Pods are not listed in standalone mode: DEL, GC or an operator ends its claims"


class DeletionNotice(NamedTuple):
    """Pods and nodes that an operator reports as gone; ``who`` and why go into the evidence."""

    who: str
    reason: str
    pods: frozenset[EndpointKey] = frozenset()
    nodes: frozenset[str] = frozenset()


class StandaloneCluster(RecordOwners):
    """Facts of standalone mode: nodes of Pods from the endpoints, owners from the records."""

    __slots__ = ("_endpoints", "_word", "seen")

    def __init__(self, ledger: Ledger, word: DeletionNotice, observed: Moment) -> None:
        super().__init__(ledger.records)
        self._endpoints = ledger.endpoints
        self._word = word
        self.seen = observed

    def pod(self, namespace: str, name: str) -> PodState | MissingOwner:
        """Gone if the operator reports it, else unknown."""
        who, reason, pods, nodes = self._word
        key = namespace, name
        if key in pods:
            why = f"{who} reports that Pod {namespace}/{name} is gone: {reason}"
            return MissingOwner(certain=True, why=why, direct=True)
        endpoint = self._endpoints.get(key)
        if endpoint is not None and endpoint.node in nodes:
            why = f"{who} reports that node {endpoint.node} is gone: {reason}"
            return MissingOwner(certain=True, why=why, direct=True)
        return MissingOwner(certain=False, why=UNSEEN)

    def pod_of_uid(self, uid: str) -> PodState | None:
        """Always unknown."""
        return None

    def launcher(self, namespace: str, name: str) -> PodState | None:
        """Always unknown."""
        return None

    def reporter(self, address: str) -> PodState | None:
        """Always unknown: no Pod has a status."""
        return None

    def node(self, name: str) -> NodeState | MissingOwner:
        """Always unknown."""
        return UNLISTED

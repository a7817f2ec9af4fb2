"""What is known without Kubernetes: nothing of Pods, but for what an operator says.

Nobody lists Pods there, so nothing is released for being unseen. An operator may say that a Pod is
gone, or a node with all that ran on it: a report of somebody who must know, one is enough.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from core.domain.evolution import EndpointKey, Ledger
from core.domain.fixed.owners import MissingOwner
from core.domain.fixed.records import UNLISTED, RecordOwners
from core.domain.reclaim.cluster import NodeState, PodState
from core.domain.reclaim.evidence import Moment

UNSEEN: Final = "nobody lists Pods here: its DEL, the runtime's GC or an operator's word ends it"


class DeletionNotice(NamedTuple):
    """What an operator says is gone, and why; ``who`` goes into the evidence."""

    who: str
    reason: str
    pods: frozenset[EndpointKey] = frozenset()
    nodes: frozenset[str] = frozenset()


class StandaloneCluster(RecordOwners):
    """Facts of standalone mode; the ledger's endpoints tell who is where, its records who wants."""

    __slots__ = ("_endpoints", "_word", "seen")

    def __init__(self, ledger: Ledger, word: DeletionNotice, observed: Moment) -> None:
        super().__init__(ledger.records)
        self._endpoints = ledger.endpoints
        self._word = word
        self.seen = observed

    def pod(self, namespace: str, name: str) -> PodState | MissingOwner:
        """Gone if the operator says so, else nobody can tell."""
        who, reason, pods, nodes = self._word
        key = namespace, name
        if key in pods:
            why = f"{who} says that Pod {namespace}/{name} is gone: {reason}"
            return MissingOwner(certain=True, why=why, direct=True)
        endpoint = self._endpoints.get(key)
        if endpoint is not None and endpoint.node in nodes:
            why = f"{who} says that node {endpoint.node} is gone: {reason}"
            return MissingOwner(certain=True, why=why, direct=True)
        return MissingOwner(certain=False, why=UNSEEN)

    def pod_of_uid(self, uid: str) -> PodState | None:
        """Nobody knows."""
        return None

    def launcher(self, namespace: str, name: str) -> PodState | None:
        """Nobody knows."""
        return None

    def reporter(self, address: str) -> PodState | None:
        """Nobody reports."""
        return None

    def node(self, name: str) -> NodeState | MissingOwner:
        """Nobody knows."""
        return UNLISTED

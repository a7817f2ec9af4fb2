"""The state of Pods, Nodes and owners that reclaim uses: plain values behind a small interface.

A lookup returns the object, proof that it does not exist, or "unknown", which is not evidence (I6);
see ``core.domain.fixed.owners``. An implementation may report that an object does not exist only
after a listing that is complete, was taken after the claims were read, and is not empty for a kind
that every cluster has. A Pod exists before its ADD, so every living holder of a claim is in such a
listing. Pure: the implementation reads the objects.

``StandaloneCluster`` is for standalone mode. There is no listing of Pods, so no address is released
because a Pod is missing. An operator can report that a Pod is gone, or a node with all of its Pods;
one such report is enough.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple, Protocol

from core.domain.evolution import EndpointKey, Ledger
from core.domain.fixed.owners import (
    NO_RECORD,
    FixedAddressSwitches,
    MissingOwner,
    OwnerLookup,
    RecordOwners,
    kind_of_pod,
)
from core.domain.model import FixedKind, Owner
from core.domain.reclaim.evidence import Moment

Phase = Literal["Pending", "Running", "Succeeded", "Failed", "Unknown"]
Kind = Literal[
    "Pod", "Node", "StatefulSet", "VirtualMachineInstance", "VirtualMachine", "IPAMClaim"
]
"""Kinds of objects whose state reclaim reads."""

EVICTED: Final = "Evicted"
NEVER_EMPTY: Final[frozenset[Kind]] = frozenset({"Pod", "Node"})
"""Kinds whose listing cannot be empty, because the controller itself is a Pod on a Node."""


class PodState(NamedTuple):
    """One Pod. Times are Unix seconds, grace periods are seconds.

    ``owner``: the direct controller. ``deletion_s``: the deletionTimestamp, which already includes
    the grace period ``deletion_grace_s``; None while the Pod is not being deleted. ``grace_s``:
    spec.terminationGracePeriodSeconds. ``finished_s``: when each container finished. ``claims``:
    the IPAMClaims that its networks name.
    """

    namespace: str
    name: str
    uid: str
    phase: Phase = "Running"
    node: str = ""
    ips: tuple[str, ...] = ()
    owner: Owner | None = None
    deletion_s: float | None = None
    deletion_grace_s: float = 0.0
    grace_s: float = 30.0
    restart_policy: str = "Always"
    reason: str = ""
    finished_s: tuple[float, ...] = ()
    host_network: bool = False
    claims: tuple[str, ...] = ()

    @property
    def is_final(self) -> bool:
        """Whether its phase is final: Succeeded or Failed."""
        return self.phase in ("Succeeded", "Failed")

    @property
    def is_living(self) -> bool:
        """Whether it is neither being deleted nor finished, so that its addresses are kept."""
        return self.deletion_s is None and not self.is_final

    @property
    def may_restart(self) -> bool:
        """Whether its phase is final, but its restart policy starts it again.

        See docs/reference/pool-selection.md, "Living Pods".
        """
        if self.phase == "Succeeded":
            return self.restart_policy == "Always"
        return self.phase == "Failed" and self.restart_policy != "Never" and self.reason != EVICTED

    def fixed(self, switches: FixedAddressSwitches) -> FixedKind | None:
        """Why its addresses are fixed, by its controller and the settings; None if they are not."""
        return kind_of_pod(self.name, self.owner, switches)

    def endpoint_key(self, switches: FixedAddressSwitches) -> tuple[str, str]:
        """(namespace, name) of its endpoint: a VM's is named after the VM instance."""
        if self.owner is not None and self.fixed(switches) == "vm":
            return self.namespace, self.owner.name
        return self.namespace, self.name


class NodeState(NamedTuple):
    """A Node. ``ready``: its condition Ready is True."""

    name: str
    ready: bool


class ClusterLookup(OwnerLookup, Protocol):
    """The state of the cluster for the decisions. It does not change while a plan is made."""

    @property
    def observed_at(self) -> Moment:
        """The time of the observation."""
        ...

    def pod(self, namespace: str, name: str) -> PodState | MissingOwner:
        """The Pod of that name."""
        ...

    def pod_of_uid(self, uid: str) -> PodState | None:
        """The Pod of that UID, from any listing, as it is only used to keep addresses."""
        ...

    def launcher(self, namespace: str, name: str) -> PodState | None:
        """A Pod of the VM instance or IPAMClaim that has not ended, from any listing.

        ``name``: that of the endpoint.
        """
        ...

    def reporter(self, address: str) -> PodState | None:
        """A living Pod that has the address in its status, from any listing."""
        ...

    def node(self, name: str) -> NodeState | MissingOwner:
        """The Node of that name."""
        ...


NOT_LISTED: Final = "Pods are not listed in standalone mode: DEL, GC or an operator ends its claims"


class DeletionNotice(NamedTuple):
    """Pods and nodes that an operator reports as gone; ``actor`` and ``reason`` are evidence."""

    actor: str
    reason: str
    pods: frozenset[EndpointKey] = frozenset()
    nodes: frozenset[str] = frozenset()


class StandaloneCluster(RecordOwners):
    """``ClusterLookup`` of standalone mode, from endpoints, records and an operator's report."""

    __slots__ = ("_endpoints", "_notice", "observed_at")

    def __init__(self, ledger: Ledger, notice: DeletionNotice, observed_at: Moment) -> None:
        super().__init__(ledger.records)
        self._endpoints = ledger.endpoints
        self._notice = notice
        self.observed_at = observed_at

    def pod(self, namespace: str, name: str) -> PodState | MissingOwner:
        """Gone if the operator has reported that, else unknown."""
        actor, reason, pods, nodes = self._notice
        key = namespace, name
        if key in pods:
            why = f"{actor} reports that Pod {namespace}/{name} is gone: {reason}"
            return MissingOwner(certain=True, why=why, direct=True)
        endpoint = self._endpoints.get(key)
        if endpoint is not None and endpoint.node in nodes:
            why = f"{actor} reports that node {endpoint.node} is gone: {reason}"
            return MissingOwner(certain=True, why=why, direct=True)
        return MissingOwner(certain=False, why=NOT_LISTED)

    def pod_of_uid(self, uid: str) -> PodState | None:
        """Always unknown."""
        return None

    def launcher(self, namespace: str, name: str) -> PodState | None:
        """Always unknown."""
        return None

    def reporter(self, address: str) -> PodState | None:
        """Always None: Pods have no status."""
        return None

    def node(self, name: str) -> NodeState | MissingOwner:
        """Always unknown."""
        return NO_RECORD

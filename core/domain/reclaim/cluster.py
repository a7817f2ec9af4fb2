"""Facts about the cluster for reclaim: plain values behind a small interface.

The results are those of ``core.domain.fixed.owners``: the object, "certainly gone", or "unknown",
which is not evidence (I6). A source may call an object gone only after a listing that is complete,
was taken after the claims were read, and is not empty for a kind that every cluster has: a Pod
exists before its ADD, so that every living holder of a claim is in a newer listing. Nothing here
fetches, decides, or uses Kubernetes' own objects.

``StandaloneCluster`` is for clusters without Kubernetes: there is no listing of Pods, so that no
address is released for a missing Pod. An operator can report that a Pod is gone, or a node with all
of its Pods; one such report is enough.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple, Protocol

from core.domain.evolution import EndpointKey, Ledger
from core.domain.fixed.owners import (
    NO_RECORD,
    FixedAddressSwitches,
    MissingOwner,
    OwnerFacts,
    RecordOwners,
    kind_of_pod,
)
from core.domain.model import FixedKind, Owner
from core.domain.reclaim.evidence import Moment

Phase = Literal["Pending", "Running", "Succeeded", "Failed", "Unknown"]
Kind = Literal[
    "Pod", "Node", "StatefulSet", "VirtualMachineInstance", "VirtualMachine", "IPAMClaim"
]

EVICTED: Final = "Evicted"
NEVER_EMPTY: Final[frozenset[Kind]] = frozenset({"Pod", "Node"})
"""The controller itself is a Pod on a Node: an empty listing is wrong."""


class PodState(NamedTuple):
    """One Pod. Times are Unix seconds, graces seconds.

    ``owner`` is the direct controller. ``deletion_s`` is the deletionTimestamp, which already
    includes the grace period ``deletion_grace_s``; None while the Pod is not being deleted.
    ``grace_s`` is spec.terminationGracePeriodSeconds, ``finished_s`` when each container finished.
    ``claims``: the IPAMClaims that its networks name.
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
        """Whether the phase never changes again."""
        return self.phase in ("Succeeded", "Failed")

    @property
    def is_living(self) -> bool:
        """Neither being deleted nor finished: its addresses are never released."""
        return self.deletion_s is None and not self.is_final

    @property
    def may_restart(self) -> bool:
        """Finished by its phase, but alive: its restart policy starts it again.

        See docs/reference/pool-selection.md, "Living Pods".
        """
        if self.phase == "Succeeded":
            return self.restart_policy == "Always"
        return self.phase == "Failed" and self.restart_policy != "Never" and self.reason != EVICTED

    def fixed(self, switches: FixedAddressSwitches) -> FixedKind | None:
        """Whether its addresses are fixed, by its controller and the settings."""
        return kind_of_pod(self.name, self.owner, switches)

    def endpoint_key(self, switches: FixedAddressSwitches) -> tuple[str, str]:
        """(namespace, name) of its endpoint: a VM's is named after the VM instance."""
        if self.owner is not None and self.fixed(switches) == "vm":
            return self.namespace, self.owner.name
        return self.namespace, self.name


class NodeState(NamedTuple):
    """``ready``: its condition Ready is True."""

    name: str
    ready: bool


class ClusterFacts(OwnerFacts, Protocol):
    """The facts that the rules use. They do not change while a plan is made."""

    @property
    def seen(self) -> Moment:
        """The time of the observation."""
        ...

    def pod(self, namespace: str, name: str) -> PodState | MissingOwner:
        """The Pod of that name."""
        ...

    def pod_of_uid(self, uid: str) -> PodState | None:
        """The Pod of that UID, from any listing: it can only keep addresses."""
        ...

    def launcher(self, namespace: str, name: str) -> PodState | None:
        """A Pod of that VM instance or IPAMClaim that has not ended, from any listing.

        The name is that of the endpoint.
        """
        ...

    def reporter(self, address: str) -> PodState | None:
        """A living Pod that has the address in its status, from any listing."""
        ...

    def node(self, name: str) -> NodeState | MissingOwner:
        """The Node of that name."""
        ...


UNSEEN: Final = "Pods are not listed in standalone mode: DEL, GC or an operator ends its claims"


class DeletionNotice(NamedTuple):
    """Pods and nodes that an operator reports as gone; ``who`` and why go into the evidence."""

    who: str
    reason: str
    pods: frozenset[EndpointKey] = frozenset()
    nodes: frozenset[str] = frozenset()


class StandaloneCluster(RecordOwners):
    """Facts of standalone mode: nodes of Pods from the endpoints, owners from the records."""

    __slots__ = ("_endpoints", "_notice", "seen")

    def __init__(self, ledger: Ledger, notice: DeletionNotice, observed: Moment) -> None:
        super().__init__(ledger.records)
        self._endpoints = ledger.endpoints
        self._notice = notice
        self.seen = observed

    def pod(self, namespace: str, name: str) -> PodState | MissingOwner:
        """Gone if the operator reports it, else unknown."""
        who, reason, pods, nodes = self._notice
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
        return NO_RECORD

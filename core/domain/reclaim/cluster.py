"""Facts about the cluster for reclaim: plain values behind a small interface.

The results are those of ``core.domain.fixed.owners``: the object, "certainly gone", or "unknown",
which is not evidence (I6). ``ClusterSnapshot`` reads listings. It trusts one only if it is
complete, was taken after the claims were read, and is not empty for a kind that every cluster has:
a Pod exists before its ADD, so that every living holder of a claim is in a newer listing. Nothing
here fetches, decides, or uses Kubernetes' own objects.

``StandaloneCluster`` is for clusters without Kubernetes: there is no listing of Pods, so that no
address is released for a missing Pod. An operator can report that a Pod is gone, or a node with all
of its Pods; one such report is enough.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, Literal, NamedTuple, Protocol, TypeVar

from core.domain.evolution import EndpointKey, Ledger
from core.domain.fixed.owners import (
    UNLISTED,
    VM_INSTANCE,
    FixedAddressSwitches,
    MissingOwner,
    OwnerFacts,
    RecordOwners,
    StatefulSetState,
    VmiState,
    VmState,
    kind_of_pod,
)
from core.domain.model import FixedKind, Owner
from core.domain.reclaim.evidence import Moment

Phase = Literal["Pending", "Running", "Succeeded", "Failed", "Unknown"]
Kind = Literal["Pod", "Node", "StatefulSet", "VirtualMachineInstance", "VirtualMachine"]

EVICTED: Final = "Evicted"
NEVER_EMPTY: Final[frozenset[Kind]] = frozenset({"Pod", "Node"})
"""The controller itself is a Pod on a Node: an empty listing is wrong."""


class PodState(NamedTuple):
    """One Pod. Times are Unix seconds, graces seconds.

    ``owner`` is the direct controller. ``deletion_s`` is the deletionTimestamp, which already
    includes the grace period ``deletion_grace_s``; None while the Pod is not being deleted.
    ``grace_s`` is spec.terminationGracePeriodSeconds, ``finished_s`` when each container finished.
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


class KindListing(NamedTuple):
    """How objects of one kind were listed: when it began, and whether to the end."""

    taken: Moment
    complete: bool = True


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
        """A Pod of the VM instance of that name that has not ended, from any listing."""
        ...

    def reporter(self, address: str) -> PodState | None:
        """A living Pod that has the address in its status, from any listing."""
        ...

    def node(self, name: str) -> NodeState | MissingOwner:
        """The Node of that name."""
        ...


class ListedObjects(NamedTuple):
    """What listings returned."""

    pods: Iterable[PodState] = ()
    nodes: Iterable[NodeState] = ()
    stateful_sets: Iterable[StatefulSetState] = ()
    vmis: Iterable[VmiState] = ()
    vms: Iterable[VmState] = ()


T = TypeVar("T")


class ClusterSnapshot:
    """Facts from one round of listings.

    ``listings``: one for each kind that was listed. ``claims_read``: when the claims were read, by
    the clock of the same observer.
    """

    __slots__ = (
        "_by_uid", "_doubts", "_launchers", "_nodes", "_pods", "_reporters", "_stateful_sets",
        "_vmis", "_vms", "seen",
    )  # fmt: skip

    def __init__(
        self, objects: ListedObjects, listings: Mapping[Kind, KindListing], claims_read: Moment
    ) -> None:
        self._pods = {(pod.namespace, pod.name): pod for pod in objects.pods}
        self._nodes = {node.name: node for node in objects.nodes}
        self._stateful_sets = {
            (owner.namespace, owner.name): owner for owner in objects.stateful_sets
        }
        self._vmis = {(vmi.namespace, vmi.name): vmi for vmi in objects.vmis}
        self._vms = {(vm.namespace, vm.name): vm for vm in objects.vms}
        self._by_uid = {pod.uid: pod for pod in self._pods.values()}
        self._reporters = {
            ip: pod for pod in self._pods.values() if pod.is_living for ip in pod.ips
        }
        self._launchers = _launchers(self._pods.values())
        sizes: dict[Kind, int] = {
            "Pod": len(self._pods),
            "Node": len(self._nodes),
            "StatefulSet": len(self._stateful_sets),
            "VirtualMachineInstance": len(self._vmis),
            "VirtualMachine": len(self._vms),
        }
        self._doubts = {
            kind: doubt_of(kind, size, listings.get(kind), claims_read)
            for kind, size in sizes.items()
        }
        pods = listings.get("Pod")
        self.seen = claims_read if pods is None else pods.taken

    def pod(self, namespace: str, name: str) -> PodState | MissingOwner:
        """Only from a trusted listing, else unknown."""
        return self._answer("Pod", self._pods.get((namespace, name)), f"{namespace}/{name}")

    def pod_of_uid(self, uid: str) -> PodState | None:
        """From any listing."""
        return self._by_uid.get(uid)

    def launcher(self, namespace: str, name: str) -> PodState | None:
        """From any listing, living ones first."""
        return self._launchers.get((namespace, name))

    def reporter(self, address: str) -> PodState | None:
        """From any listing."""
        return self._reporters.get(address)

    def node(self, name: str) -> NodeState | MissingOwner:
        """Only from a trusted listing."""
        return self._answer("Node", self._nodes.get(name), name)

    def stateful_set(self, namespace: str, name: str) -> StatefulSetState | MissingOwner:
        """Only from a trusted listing."""
        found = self._stateful_sets.get((namespace, name))
        return self._answer("StatefulSet", found, f"{namespace}/{name}")

    def vmi(self, namespace: str, name: str) -> VmiState | MissingOwner:
        """Only from a trusted listing."""
        found = self._vmis.get((namespace, name))
        return self._answer("VirtualMachineInstance", found, f"{namespace}/{name}")

    def vm(self, namespace: str, name: str) -> VmState | MissingOwner:
        """Only from a trusted listing."""
        found = self._vms.get((namespace, name))
        return self._answer("VirtualMachine", found, f"{namespace}/{name}")

    def _answer(self, kind: Kind, entry: T | None, name: str) -> T | MissingOwner:
        doubt = self._doubts[kind]
        if doubt:
            return MissingOwner(certain=False, why=doubt)
        if entry is not None:
            return entry
        return MissingOwner(certain=True, why=f"{kind} {name} is gone")


def _launchers(pods: Iterable[PodState]) -> dict[tuple[str, str], PodState]:
    """By VM instance: the Pod that runs it, or one that is terminating."""
    launchers: dict[tuple[str, str], PodState] = {}
    for pod in pods:
        owner = pod.owner
        if owner is None or owner.kind != VM_INSTANCE or pod.is_final:
            continue
        key = pod.namespace, owner.name
        if pod.is_living or key not in launchers:
            launchers[key] = pod
    return launchers


def doubt_of(kind: Kind, size: int, listing: KindListing | None, claims_read: Moment) -> str:
    """Why a listing is not trusted; "" if it is."""
    if listing is None:
        return f"{kind} objects were not listed"
    if not listing.complete:
        return f"the listing of {kind} objects is incomplete"
    if listing.taken.is_before(claims_read):
        return f"the listing of {kind} objects is older than the claims"
    if not size and kind in NEVER_EMPTY:
        return f"the listing of {kind} objects is empty, although every cluster has some"
    return ""


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
        return UNLISTED

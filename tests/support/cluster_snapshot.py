"""Cluster facts from one round of listings, for tests and benchmarks of reclaim."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple, TypeVar

from core.domain.fixed.fixed_address_owners import (
    IpamClaimState,
    MissingOwner,
    StatefulSetState,
    VmiState,
    VmState,
)
from core.domain.reclaim.evidence import KINDS_NEVER_EMPTY, Kind, Moment, NodeState, PodState
from ops.kubernetes.watches.pods import shared_endpoints


class KindListing(NamedTuple):
    """One listing of a kind. ``taken``: when the listing began."""

    taken: Moment
    complete: bool = True


class ListedObjects(NamedTuple):
    """The objects of all listings."""

    pods: Iterable[PodState] = ()
    nodes: Iterable[NodeState] = ()
    stateful_sets: Iterable[StatefulSetState] = ()
    vmis: Iterable[VmiState] = ()
    vms: Iterable[VmState] = ()
    ipam_claims: Iterable[IpamClaimState] = ()


T = TypeVar("T")


class ClusterSnapshot:
    """Facts from one round of listings.

    ``claims_read``: when the claims were read from etcd. For objects of a listing that is not
    trusted (``doubt_of``), methods return an uncertain ``MissingOwner``.
    """

    __slots__ = (
        "_by_uid", "_doubts", "_ipam_claims", "_launchers", "_nodes", "_pods", "_reporters",
        "_stateful_sets", "_vmis", "_vms", "observed_at",
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
        self._ipam_claims = {(claim.namespace, claim.name): claim for claim in objects.ipam_claims}
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
            "IPAMClaim": len(self._ipam_claims),
        }
        self._doubts = {
            kind: doubt_of(kind, size, listings.get(kind), claims_read)
            for kind, size in sizes.items()
        }
        pods = listings.get("Pod")
        self.observed_at = claims_read if pods is None else pods.taken

    def pod(self, namespace: str, name: str) -> PodState | MissingOwner:
        return self._answer("Pod", self._pods.get((namespace, name)), f"{namespace}/{name}")

    def pod_of_uid(self, uid: str) -> PodState | None:
        return self._by_uid.get(uid)

    def launcher(self, namespace: str, name: str) -> PodState | None:
        """A Pod of a VM instance or IPAMClaim, preferably a living Pod."""
        return self._launchers.get((namespace, name))

    def reporter(self, address: str) -> PodState | None:
        """The living Pod whose status has this address."""
        return self._reporters.get(address)

    def node(self, name: str) -> NodeState | MissingOwner:
        return self._answer("Node", self._nodes.get(name), name)

    def stateful_set(self, namespace: str, name: str) -> StatefulSetState | MissingOwner:
        entry = self._stateful_sets.get((namespace, name))
        return self._answer("StatefulSet", entry, f"{namespace}/{name}")

    def vmi(self, namespace: str, name: str) -> VmiState | MissingOwner:
        entry = self._vmis.get((namespace, name))
        return self._answer("VirtualMachineInstance", entry, f"{namespace}/{name}")

    def vm(self, namespace: str, name: str) -> VmState | MissingOwner:
        entry = self._vms.get((namespace, name))
        return self._answer("VirtualMachine", entry, f"{namespace}/{name}")

    def ipam_claim(self, namespace: str, name: str) -> IpamClaimState | MissingOwner:
        entry = self._ipam_claims.get((namespace, name))
        return self._answer("IPAMClaim", entry, f"{namespace}/{name}")

    def _answer(self, kind: Kind, entry: T | None, name: str) -> T | MissingOwner:
        doubt = self._doubts[kind]
        if doubt:
            return MissingOwner(certain=False, why=doubt)
        if entry is not None:
            return entry
        return MissingOwner(certain=True, why=f"{kind} {name} is gone")


def _launchers(pods: Iterable[PodState]) -> dict[tuple[str, str], PodState]:
    launchers: dict[tuple[str, str], PodState] = {}
    for pod in pods:
        for key in () if pod.is_final else shared_endpoints(pod):
            if pod.is_living or key not in launchers:
                launchers[key] = pod
    return launchers


def doubt_of(kind: Kind, size: int, listing: KindListing | None, claims_read: Moment) -> str:
    """Why a listing is not trusted; "" for a trusted listing."""
    if listing is None:
        return f"{kind} objects were not listed"
    if not listing.complete:
        return f"the listing of {kind} objects is incomplete"
    if listing.taken.is_before(claims_read):
        return f"the listing of {kind} objects is older than the claims"
    if not size and kind in KINDS_NEVER_EMPTY:
        return f"the listing of {kind} objects is empty, although every cluster has some"
    return ""

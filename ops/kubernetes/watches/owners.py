"""Watches and reads the owners of fixed addresses: StatefulSets, VM instances, VMs, IPAMClaims.

KubeVirt and IPAMClaims are optional. That an owner needs no address is proved by a read from the
API server, never by a watch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, TypeVar

from core.domain.fixed.fixed_address_owners import (
    FixedAddressSwitches,
    IpamClaimState,
    KnownOwners,
    StatefulSetState,
    VmiState,
    VmState,
    ipam_claim_of_endpoint,
    replica_of,
)
from core.domain.model import FixedKind
from core.kubernetes.api_client import Api
from core.kubernetes.informer import ObjectKey, Transition
from core.kubernetes.workloads.applications import (
    ipam_claim_state,
    stateful_set_state,
    vm_state,
    vmi_state,
)
from core.process.concurrency import until_all
from ops.kubernetes.watches.collection import Collection

STATEFUL_SETS: Final = "/apis/apps/v1/statefulsets"
VM_INSTANCES: Final = "/apis/kubevirt.io/v1/virtualmachineinstances"
VMS: Final = "/apis/kubevirt.io/v1/virtualmachines"
IPAM_CLAIMS: Final = "/apis/k8s.cni.cncf.io/v1alpha1/ipamclaims"

V = TypeVar("V", VmiState, VmState, IpamClaimState)


class OwnerWatch:
    """Watches owners; calls ``request_scan`` with a reason if an owner may need fewer addresses."""

    def __init__(
        self, api: Api, request_scan: Callable[[str], None], switches: FixedAddressSwitches
    ) -> None:
        self.stateful_sets = Collection(api, "StatefulSet", STATEFUL_SETS, stateful_set_state)
        self.vmis = Collection(
            api, "VirtualMachineInstance", VM_INSTANCES, vmi_state, optional=True
        )
        self.vms = Collection(api, "VirtualMachine", VMS, vm_state, optional=True)
        self.ipam_claims = Collection(
            api, "IPAMClaim", IPAM_CLAIMS, ipam_claim_state, optional=True
        )
        self._request_scan = request_scan
        self._watches_ipam_claims = switches.ipam_claims
        self.stateful_sets.seen.add_handler(self._on_stateful_set)
        self.vmis.seen.add_handler(self._on_vmi)
        self.vms.seen.add_handler(self._on_vm)
        self.ipam_claims.seen.add_handler(self._on_ipam_claim)

    async def run(self) -> None:
        """Watch until cancelled."""
        optional = [self.ipam_claims.run()] if self._watches_ipam_claims else []
        await until_all(self.stateful_sets.run(), self.vmis.run(), self.vms.run(), *optional)

    def seen(self) -> KnownOwners:
        """The watched owners; an owner that is missing here may exist."""
        return KnownOwners(
            self.stateful_sets.seen.objects,
            self.vmis.seen.objects,
            self.vms.seen.objects,
            self.ipam_claims.seen.objects,
        )

    async def read(self, holders: Iterable[tuple[FixedKind, ObjectKey]]) -> KnownOwners:
        """Read the owners of these holders from the API server."""
        stateful_sets: set[ObjectKey] = set()
        vms: set[ObjectKey] = set()
        ipam_claims: set[ObjectKey] = set()
        for kind, (namespace, name) in holders:
            if kind == "vm":
                vms.add((namespace, name))
            elif kind == "ipamclaim":
                ipam_claims.add((namespace, ipam_claim_of_endpoint(name)))
            elif (replica := replica_of(name)) is not None:
                stateful_sets.add((namespace, replica.stateful_set))
        return KnownOwners(
            await self.stateful_sets.read(stateful_sets),
            await self.vmis.read(vms),
            await self.vms.read(vms),
            await self.ipam_claims.read(ipam_claims),
        )

    def _on_stateful_set(self, change: Transition[StatefulSetState]) -> None:
        before, after = change.before, change.after
        if before is not None and (after is None or _removes_replica(before, after)):
            self._request_scan(
                f"StatefulSet {'/'.join(change.key)} has fewer replicas or is deleted"
            )

    def _on_vmi(self, change: Transition[VmiState]) -> None:
        if _is_removed(change):
            self._request_scan(f"VM instance {'/'.join(change.key)} is being deleted")

    def _on_vm(self, change: Transition[VmState]) -> None:
        if _is_removed(change):
            self._request_scan(f"VM {'/'.join(change.key)} is being deleted")

    def _on_ipam_claim(self, change: Transition[IpamClaimState]) -> None:
        if _is_removed(change):
            self._request_scan(f"IPAMClaim {'/'.join(change.key)} is being deleted")


def _removes_replica(before: StatefulSetState, after: StatefulSetState) -> bool:
    first, last = before.start, before.start + before.replicas
    return first < last and (after.start > first or after.start + after.replicas < last)


def _is_removed(change: Transition[V]) -> bool:
    before, after = change.before, change.after
    return before is not None and (after is None or (after.deleting and not before.deleting))

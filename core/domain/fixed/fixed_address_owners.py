"""Owners of fixed addresses: replicas of StatefulSets, VMs and IPAMClaims. Pure.

See docs/reference/address-assignment.md, "Life of an endpoint". Only a ``certain`` ``MissingOwner``
is evidence for a release.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, NamedTuple, Protocol, TypeVar

from core.domain.events import RecordDefined
from core.domain.evolution import RecordKey
from core.domain.model import FixedKind, Owner

STATEFUL_SET: Final = "StatefulSet"
VM_INSTANCE: Final = "VirtualMachineInstance"
IPAM_CLAIM_SUFFIX: Final = ".ipamclaim"
"""Distinguishes the endpoint names of IPAMClaims from names of Pods."""

ORDINAL_DIGITS_MAX: Final = 18

_REPLICA: Final = re.compile(r"(.*)-([0-9]+)\Z", re.DOTALL)
_OWNERS: Final[Mapping[tuple[str, str], FixedKind]] = {
    ("apps/v1", STATEFUL_SET): "statefulset",
    ("kubevirt.io/v1", VM_INSTANCE): "vm",
}
_HOLDERS: Final[Mapping[str, FixedKind]] = {
    "statefulset": "statefulset",
    "vm": "vm",
    "ipamclaim": "ipamclaim",
}

KEPT_UNTIL: Final[Mapping[FixedKind, str]] = {
    "statefulset": "until the StatefulSet is deleted or scaled down below this replica",
    "vm": "until the VM is deleted",
    "ipamclaim": "until the IPAMClaim is deleted",
}
"""Until when the addresses are kept, as text."""


class FixedAddressSwitches(Protocol):
    """The settings enableStatefulSet, enableKubevirtStaticIP and orbweaver.ipamClaims."""

    @property
    def stateful_sets(self) -> bool: ...

    @property
    def vms(self) -> bool: ...

    @property
    def ipam_claims(self) -> bool: ...


class FixedSettings(NamedTuple):
    """The switches. IPAMClaims are off by default, because few clusters have the CRD IPAMClaim."""

    stateful_sets: bool = True
    vms: bool = True
    ipam_claims: bool = False


class Replica(NamedTuple):
    """The StatefulSet and the ordinal in a replica's name."""

    stateful_set: str
    ordinal: int


def replica_of(name: str) -> Replica | None:
    """Parse ``<StatefulSet>-<ordinal>``; None: the name has another form."""
    match = _REPLICA.match(name)
    if match is None or len(match[2]) > ORDINAL_DIGITS_MAX:
        return None
    return Replica(match[1], int(match[2]))


def endpoint_of_ipam_claim(ipam_claim: str) -> str:
    """The name of an IPAMClaim's endpoint."""
    return f"{ipam_claim}{IPAM_CLAIM_SUFFIX}"


def ipam_claim_of_endpoint(endpoint: str) -> str:
    """The name of the endpoint's IPAMClaim."""
    return endpoint.removesuffix(IPAM_CLAIM_SUFFIX)


def kind_of_pod(name: str, owner: Owner | None, switches: FixedAddressSwitches) -> FixedKind | None:
    """The kind of a Pod's fixed addresses; None: not fixed. ``owner``: the Pod's controller.

    The owner's API version must match. A StatefulSet's Pod must have the name of a replica.
    """
    if owner is None:
        return None
    kind = _switched_on(_OWNERS.get((owner.api_version, owner.kind)), switches)
    if kind == "statefulset":
        replica = replica_of(name)
        return kind if replica is not None and replica.stateful_set == owner.name else None
    return kind


def kind_of_holder(holder: str, switches: FixedAddressSwitches) -> FixedKind | None:
    """The kind of this holder's fixed addresses; None: not fixed, or switched off."""
    return _switched_on(_HOLDERS.get(holder.partition("/")[0]), switches)


def _switched_on(kind: FixedKind | None, switches: FixedAddressSwitches) -> FixedKind | None:
    if kind == "statefulset":
        return kind if switches.stateful_sets else None
    if kind == "ipamclaim":
        return kind if switches.ipam_claims else None
    return kind if switches.vms else None


class StatefulSetState(NamedTuple):
    """A StatefulSet. ``start``: spec.ordinals.start."""

    namespace: str
    name: str
    replicas: int
    start: int = 0


class VmiState(NamedTuple):
    """A VirtualMachineInstance. ``of_vm``: a VM controls the instance."""

    namespace: str
    name: str
    deleting: bool = False
    of_vm: bool = True


class VmState(NamedTuple):
    """A VirtualMachine."""

    namespace: str
    name: str
    deleting: bool = False


class IpamClaimState(NamedTuple):
    """An IPAMClaim."""

    namespace: str
    name: str
    deleting: bool = False


class MissingOwner(NamedTuple):
    """A Pod, Node or owner that was not found.

    ``certain``: the object does not exist; False: unknown.
    ``direct``: a person has reported the deletion, so one observation is enough.
    ``unanswered``: the API server did not answer; a later request may succeed.
    """

    certain: bool
    why: str
    direct: bool = False
    unanswered: bool = False


class OwnerLookup(Protocol):
    """A lookup of owners by namespace and name."""

    def stateful_set(self, namespace: str, name: str) -> StatefulSetState | MissingOwner: ...

    def vmi(self, namespace: str, name: str) -> VmiState | MissingOwner: ...

    def vm(self, namespace: str, name: str) -> VmState | MissingOwner: ...

    def ipam_claim(self, namespace: str, name: str) -> IpamClaimState | MissingOwner: ...


NOT_READ: Final = MissingOwner(certain=False, why="its owner was not read")

T = TypeVar("T")
OwnersByName = Mapping[tuple[str, str], T | MissingOwner]


class KnownOwners:
    """An ``OwnerLookup`` of the owners that have been read or watched."""

    __slots__ = ("_claims", "_sets", "_vmis", "_vms")

    def __init__(
        self,
        sets: OwnersByName[StatefulSetState],
        vmis: OwnersByName[VmiState],
        vms: OwnersByName[VmState],
        claims: OwnersByName[IpamClaimState] = MappingProxyType({}),
    ) -> None:
        self._sets = sets
        self._vmis = vmis
        self._vms = vms
        self._claims = claims

    def stateful_set(self, namespace: str, name: str) -> StatefulSetState | MissingOwner:
        """Find a StatefulSet."""
        return self._sets.get((namespace, name), NOT_READ)

    def vmi(self, namespace: str, name: str) -> VmiState | MissingOwner:
        """Find a VM instance."""
        return self._vmis.get((namespace, name), NOT_READ)

    def vm(self, namespace: str, name: str) -> VmState | MissingOwner:
        """Find a VM."""
        return self._vms.get((namespace, name), NOT_READ)

    def ipam_claim(self, namespace: str, name: str) -> IpamClaimState | MissingOwner:
        """Find an IPAMClaim."""
        return self._claims.get((namespace, name), NOT_READ)


NO_RECORD: Final = MissingOwner(certain=False, why="standalone mode has no record of the owner")


class RecordOwners:
    """The ``OwnerLookup`` of standalone mode. Of all owners, only StatefulSets have records.

    A StatefulSet may exist without a record, so a missing record is not evidence for a release.
    """

    __slots__ = ("_records",)

    def __init__(self, records: Mapping[RecordKey, RecordDefined]) -> None:
        self._records = records

    def stateful_set(self, namespace: str, name: str) -> StatefulSetState | MissingOwner:
        """Find a StatefulSet."""
        record = self._records.get((STATEFUL_SET, namespace, name))
        if record is None:
            return NO_RECORD
        return StatefulSetState(namespace, name, record.replicas, record.ordinals_start)

    def vmi(self, namespace: str, name: str) -> VmiState | MissingOwner:
        """Return NO_RECORD: these owners have no records."""
        return NO_RECORD

    def vm(self, namespace: str, name: str) -> VmState | MissingOwner:
        """Return NO_RECORD: these owners have no records."""
        return NO_RECORD

    def ipam_claim(self, namespace: str, name: str) -> IpamClaimState | MissingOwner:
        """Return NO_RECORD: these owners have no records."""
        return NO_RECORD

"""Owners of fixed addresses: replicas of StatefulSets, VMs and IPAMClaims, unless switched off.

Whether addresses are fixed depends on the Pod's controller, or on the holder of an address. Kinds
of the same names in other API groups do not count (docs/reference/address-assignment.md, "Life of
an endpoint"), nor does a Pod that is not named as a replica is. An IPAMClaim is named by a network
of a Pod (``core.domain.fixed.ipam_claims``) and has an endpoint of its own, for this one NIC.

``OwnerFacts`` looks an owner up. A lookup has three results: the object, "certainly gone", or
"unknown"; only the first two are evidence (I6). ``RecordOwners`` looks in records, without
Kubernetes: a StatefulSet may exist without a record, so that a missing one proves nothing. Nothing
here fetches, decides, or uses Kubernetes' own objects.
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
CLAIM_SUFFIX: Final = ".ipamclaim"
"""Ends the name of a claim's endpoint, which must not be that of a Pod or VM."""

ORDINAL_DIGITS_MAX: Final = 18
"""Longer numbers are no ordinals, and would cost time to read."""

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
"""The end of fixed addresses, in words."""


class FixedAddressSwitches(Protocol):
    """enableStatefulSet, enableKubevirtStaticIP and orbweaver.ipamClaims.

    See docs/reference/configuration.md, "conf.yml".
    """

    @property
    def stateful_sets(self) -> bool:
        """Whether replicas have fixed addresses."""
        ...

    @property
    def vms(self) -> bool:
        """Whether VMs have."""
        ...

    @property
    def ipam_claims(self) -> bool:
        """Whether IPAMClaims are honoured."""
        ...


class FixedSettings(NamedTuple):
    """The switches. IPAMClaims are off by default: few clusters have their definition."""

    stateful_sets: bool = True
    vms: bool = True
    ipam_claims: bool = False


class Replica(NamedTuple):
    """The StatefulSet and the ordinal in a replica's name."""

    stateful_set: str
    ordinal: int


def replica_of(name: str) -> Replica | None:
    """A name read as ``<StatefulSet>-<ordinal>``; None if it is not one."""
    match = _REPLICA.match(name)
    if match is None or len(match[2]) > ORDINAL_DIGITS_MAX:
        return None
    return Replica(match[1], int(match[2]))


def endpoint_of_claim(claim: str) -> str:
    """The name of the endpoint of an IPAMClaim."""
    return f"{claim}{CLAIM_SUFFIX}"


def claim_of_endpoint(endpoint: str) -> str:
    """The IPAMClaim of an endpoint of this name."""
    return endpoint.removesuffix(CLAIM_SUFFIX)


def kind_of_pod(name: str, owner: Owner | None, switches: FixedAddressSwitches) -> FixedKind | None:
    """How a Pod's addresses are fixed; ``owner`` is its controller."""
    if owner is None:
        return None
    kind = _switched_on(_OWNERS.get((owner.api_version, owner.kind)), switches)
    if kind == "statefulset":
        replica = replica_of(name)
        return kind if replica is not None and replica.stateful_set == owner.name else None
    return kind


def kind_of_holder(holder: str, switches: FixedAddressSwitches) -> FixedKind | None:
    """How the addresses of this holder are fixed; one that was switched off counts as a Pod."""
    return _switched_on(_HOLDERS.get(holder.partition("/")[0]), switches)


def _switched_on(kind: FixedKind | None, switches: FixedAddressSwitches) -> FixedKind | None:
    if kind == "statefulset":
        return kind if switches.stateful_sets else None
    if kind == "ipamclaim":
        return kind if switches.ipam_claims else None
    return kind if switches.vms else None


class StatefulSetState(NamedTuple):
    """``start`` is spec.ordinals.start. One that is being deleted still counts."""

    namespace: str
    name: str
    replicas: int
    start: int = 0


class VmiState(NamedTuple):
    """A VirtualMachineInstance; ``of_vm``: a VirtualMachine controls it."""

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
    """An object that was not found. ``certain``: it is gone; else that is unknown.

    ``direct``: an authoritative report (of an operator), so that one observation is enough.
    ``unanswered``: the API server did not answer; a later request may succeed.
    """

    certain: bool
    why: str
    direct: bool = False
    unanswered: bool = False


class OwnerFacts(Protocol):
    """What is known of owners."""

    def stateful_set(self, namespace: str, name: str) -> StatefulSetState | MissingOwner:
        """The StatefulSet of that name."""
        ...

    def vmi(self, namespace: str, name: str) -> VmiState | MissingOwner:
        """The VM instance of that name."""
        ...

    def vm(self, namespace: str, name: str) -> VmState | MissingOwner:
        """The VM of that name."""
        ...

    def ipam_claim(self, namespace: str, name: str) -> IpamClaimState | MissingOwner:
        """The IPAMClaim of that name."""
        ...


UNASKED: Final = MissingOwner(certain=False, why="its owner was not requested")

T = TypeVar("T")
Found = Mapping[tuple[str, str], T | MissingOwner]
"""Keys are namespace and name."""


class KnownOwners:
    """``OwnerFacts`` of one moment, as requested or watched."""

    __slots__ = ("_claims", "_sets", "_vmis", "_vms")

    def __init__(
        self,
        sets: Found[StatefulSetState],
        vmis: Found[VmiState],
        vms: Found[VmState],
        claims: Found[IpamClaimState] = MappingProxyType({}),
    ) -> None:
        self._sets = sets
        self._vmis = vmis
        self._vms = vms
        self._claims = claims

    def stateful_set(self, namespace: str, name: str) -> StatefulSetState | MissingOwner:
        """The StatefulSet of that name."""
        return self._sets.get((namespace, name), UNASKED)

    def vmi(self, namespace: str, name: str) -> VmiState | MissingOwner:
        """The VM instance of that name."""
        return self._vmis.get((namespace, name), UNASKED)

    def vm(self, namespace: str, name: str) -> VmState | MissingOwner:
        """The VM of that name."""
        return self._vms.get((namespace, name), UNASKED)

    def ipam_claim(self, namespace: str, name: str) -> IpamClaimState | MissingOwner:
        """The IPAMClaim of that name."""
        return self._claims.get((namespace, name), UNASKED)


UNLISTED: Final = MissingOwner(certain=False, why="owners are unknown in standalone mode")


class RecordOwners:
    """``OwnerFacts`` from records."""

    __slots__ = ("_records",)

    def __init__(self, records: Mapping[RecordKey, RecordDefined]) -> None:
        self._records = records

    def stateful_set(self, namespace: str, name: str) -> StatefulSetState | MissingOwner:
        """The value of its record."""
        record = self._records.get((STATEFUL_SET, namespace, name))
        if record is None:
            return UNLISTED
        return StatefulSetState(namespace, name, record.replicas, record.ordinals_start)

    def vmi(self, namespace: str, name: str) -> VmiState | MissingOwner:
        """Always unknown."""
        return UNLISTED

    def vm(self, namespace: str, name: str) -> VmState | MissingOwner:
        """Always unknown."""
        return UNLISTED

    def ipam_claim(self, namespace: str, name: str) -> IpamClaimState | MissingOwner:
        """Always unknown."""
        return UNLISTED

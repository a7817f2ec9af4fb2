"""Decide whether the owner of a fixed address still exists.

See docs/reference/fixed-address-rules.md, "Wanted addresses". An address with an unknown owner is
kept.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, Literal, NamedTuple

from core.domain.fixed.fixed_address_owners import (
    MissingOwner,
    OwnerLookup,
    ipam_claim_of_endpoint,
    replica_of,
)
from core.domain.model import FixedKind


class Validity(NamedTuple):
    """Whether the owner of a fixed address exists. ``why``: evidence for a release.

    ``unanswered``: the API server did not answer; a later request may succeed.
    """

    state: Literal["valid", "invalid", "unknown"]
    why: str
    unanswered: bool = False

    @property
    def keeps(self) -> bool:
        """Whether the owner exists or is unknown."""
        return self.state != "invalid"


def validity_of(kind: FixedKind, namespace: str, name: str, owners: OwnerLookup) -> Validity:
    """Apply the rule of this ``kind`` of address. ``name``: of the endpoint."""
    return _RULES[kind](namespace, name, owners)


def _replica_validity(namespace: str, name: str, owners: OwnerLookup) -> Validity:
    replica = replica_of(name)
    if replica is None:
        return Validity("invalid", f"{name} is not the name of a replica")
    owner = owners.stateful_set(namespace, replica.stateful_set)
    if isinstance(owner, MissingOwner):
        return _validity_without_owner(owner)
    last = owner.start + owner.replicas - 1
    why = f"StatefulSet {namespace}/{owner.name} has {_replica_range(owner.start, last)}"
    is_in_range = owner.start <= replica.ordinal <= last
    return Validity("valid" if is_in_range else "invalid", why)


def _replica_range(first: int, last: int) -> str:
    if last <= first:
        return f"replica {first}" if last == first else "no replicas"
    return f"replicas {first} to {last}"


def _vm_validity(namespace: str, name: str, owners: OwnerLookup) -> Validity:
    instance = owners.vmi(namespace, name)
    if isinstance(instance, MissingOwner):
        if not instance.certain:
            return _validity_without_owner(instance)
    elif not instance.deleting:
        return Validity("valid", f"VM instance {namespace}/{name} exists")
    elif not instance.of_vm:
        return Validity("invalid", f"VM instance {namespace}/{name} is being deleted and has no VM")
    machine = owners.vm(namespace, name)
    if isinstance(machine, MissingOwner):
        return _validity_without_owner(machine)
    if machine.deleting:
        return Validity("invalid", f"VM {namespace}/{name} is being deleted")
    return Validity("valid", f"VM {namespace}/{name} exists")


def _ipam_claim_validity(namespace: str, name: str, owners: OwnerLookup) -> Validity:
    claim = owners.ipam_claim(namespace, ipam_claim_of_endpoint(name))
    if isinstance(claim, MissingOwner):
        return _validity_without_owner(claim)
    if claim.deleting:
        return Validity("invalid", f"IPAMClaim {namespace}/{claim.name} is being deleted")
    return Validity("valid", f"IPAMClaim {namespace}/{claim.name} exists")


def _validity_without_owner(missing: MissingOwner) -> Validity:
    if missing.certain:
        return Validity("invalid", missing.why)
    return Validity("unknown", missing.why, missing.unanswered)


_RULES: Final[Mapping[FixedKind, Callable[[str, str, OwnerLookup], Validity]]] = {
    "statefulset": _replica_validity,
    "vm": _vm_validity,
    "ipamclaim": _ipam_claim_validity,
}

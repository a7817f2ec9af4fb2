"""Whose addresses are fixed: replicas of StatefulSets, and VMs, each unless it is switched off.

A Pod's controller says it, for an address its holder. Other groups have kinds of the same names;
their Pods are stateless (docs/reference/address-assignment.md, "Life of an endpoint"), and so is a
Pod that is not named as a replica is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, NamedTuple, Protocol

from core.domain.model import FixedKind, Owner

STATEFUL_SET: Final = "StatefulSet"
VM_INSTANCE: Final = "VirtualMachineInstance"

ORDINAL_DIGITS_MAX: Final = 18
"""Longer numbers are no ordinals, and would cost time to read."""

_REPLICA: Final = re.compile(r"(.*)-([0-9]+)\Z", re.DOTALL)
_OWNERS: Final[Mapping[tuple[str, str], FixedKind]] = {
    ("apps/v1", STATEFUL_SET): "statefulset",
    ("kubevirt.io/v1", VM_INSTANCE): "vm",
}
_HOLDERS: Final[Mapping[str, FixedKind]] = {"statefulset": "statefulset", "vm": "vm"}


class FixedAddressSwitches(Protocol):
    """enableStatefulSet and enableKubevirtStaticIP.

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


class FixedSettings(NamedTuple):
    """Both switches; on by default."""

    stateful_sets: bool = True
    vms: bool = True


class Replica(NamedTuple):
    """What a replica's name says: its StatefulSet and its ordinal."""

    stateful_set: str
    ordinal: int


def replica_of(name: str) -> Replica | None:
    """A name read as ``<StatefulSet>-<ordinal>``; None if it is not one."""
    match = _REPLICA.match(name)
    if match is None or len(match[2]) > ORDINAL_DIGITS_MAX:
        return None
    return Replica(match[1], int(match[2]))


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
    return kind if switches.vms else None

"""Facts about StatefulSets and VMs as plain values, behind a small interface.

A lookup has three results: the object, "certainly gone", or "unknown"; only the first two are
evidence (I6). Nothing here fetches, decides, or uses Kubernetes' own objects.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple, Protocol, TypeVar


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


UNASKED: Final = MissingOwner(certain=False, why="its owner was not requested")

T = TypeVar("T")
Found = Mapping[tuple[str, str], T | MissingOwner]
"""By namespace and name."""


class KnownOwners:
    """``OwnerFacts`` of one moment, as requested or watched."""

    __slots__ = ("_sets", "_vmis", "_vms")

    def __init__(
        self,
        sets: Found[StatefulSetState],
        vmis: Found[VmiState],
        vms: Found[VmState],
    ) -> None:
        self._sets = sets
        self._vmis = vmis
        self._vms = vms

    def stateful_set(self, namespace: str, name: str) -> StatefulSetState | MissingOwner:
        """The StatefulSet of that name."""
        return self._sets.get((namespace, name), UNASKED)

    def vmi(self, namespace: str, name: str) -> VmiState | MissingOwner:
        """The VM instance of that name."""
        return self._vmis.get((namespace, name), UNASKED)

    def vm(self, namespace: str, name: str) -> VmState | MissingOwner:
        """The VM of that name."""
        return self._vms.get((namespace, name), UNASKED)

"""What of the owners of fixed addresses is kept. Pure."""

from __future__ import annotations

from core.domain.fixed.owners import StatefulSetState, VmiState, VmState
from core.kubernetes.api import Object
from core.kubernetes.workloads.pods import controller_of

VM = "VirtualMachine"


def stateful_set_state(one: Object) -> StatefulSetState:
    """A StatefulSet's range of replicas."""
    metadata, spec = one["metadata"], one.get("spec") or {}
    start = (spec.get("ordinals") or {}).get("start") or 0
    return StatefulSetState(metadata["namespace"], metadata["name"], spec.get("replicas", 1), start)


def vmi_state(vmi: Object) -> VmiState:
    """A VirtualMachineInstance, and whether a VirtualMachine controls it."""
    owner = controller_of(vmi)
    return VmiState(*_named(vmi), of_vm=owner is not None and owner.kind == VM)


def vm_state(one: Object) -> VmState:
    """A VirtualMachine."""
    return VmState(*_named(one))


def _named(one: Object) -> tuple[str, str, bool]:
    """Namespace, name, and whether it is being deleted."""
    metadata = one["metadata"]
    return metadata["namespace"], metadata["name"], "deletionTimestamp" in metadata

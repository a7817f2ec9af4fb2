"""StatefulSets, VM instances and VMs: who may still want fixed addresses.

KubeVirt may be there or not. What was seen says that an owner wants its addresses, and so keeps
them; that it does not is only believed when the API server is asked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, TypeVar

from core.domain.fixed.kinds import replica_of
from core.domain.fixed.owners import KnownOwners, StatefulSetState, VmiState, VmState
from core.domain.model import FixedKind
from core.kubernetes.api import Api
from core.kubernetes.informer import ObjectKey, Transition
from core.kubernetes.workloads.applications import stateful_set_state, vm_state, vmi_state
from core.process.concurrency import until_all
from ops.kubernetes.watches.collection import Collection

STATEFUL_SETS: Final = "/apis/apps/v1/statefulsets"
VM_INSTANCES: Final = "/apis/kubevirt.io/v1/virtualmachineinstances"
VMS: Final = "/apis/kubevirt.io/v1/virtualmachines"

V = TypeVar("V", VmiState, VmState)


class OwnerWatch:
    """``look_soon`` is called when one of them may want its addresses no more."""

    def __init__(self, api: Api, look_soon: Callable[[str], None]) -> None:
        self.sets = Collection(api, "StatefulSet", STATEFUL_SETS, stateful_set_state)
        self.vmis = Collection(
            api, "VirtualMachineInstance", VM_INSTANCES, vmi_state, optional=True
        )
        self.vms = Collection(api, "VirtualMachine", VMS, vm_state, optional=True)
        self._look_soon = look_soon
        self.sets.seen.add_handler(self._on_set)
        self.vmis.seen.add_handler(self._on_instance)
        self.vms.seen.add_handler(self._on_vm)

    async def run(self) -> None:
        """Watch until cancelled."""
        await until_all(self.sets.run(), self.vmis.run(), self.vms.run())

    def seen(self) -> KnownOwners:
        """As they were last seen: whoever is in it exists, whoever is not nobody knows."""
        return KnownOwners(self.sets.seen.objects, self.vmis.seen.objects, self.vms.seen.objects)

    async def ask(self, wanted: Iterable[tuple[FixedKind, ObjectKey]]) -> KnownOwners:
        """What is so now of the owners of these replicas and VMs."""
        sets: set[ObjectKey] = set()
        machines: set[ObjectKey] = set()
        for kind, (namespace, name) in wanted:
            if kind == "vm":
                machines.add((namespace, name))
            elif (replica := replica_of(name)) is not None:
                sets.add((namespace, replica.stateful_set))
        return KnownOwners(
            await self.sets.ask(sets), await self.vmis.ask(machines), await self.vms.ask(machines)
        )

    def _on_set(self, change: Transition[StatefulSetState]) -> None:
        before, after = change.before, change.after
        if before is not None and (after is None or _wants_less(before, after)):
            self._look_soon(f"StatefulSet {'/'.join(change.key)} wants fewer replicas")

    def _on_instance(self, change: Transition[VmiState]) -> None:
        if _goes(change):
            self._look_soon(f"VM instance {'/'.join(change.key)} goes")

    def _on_vm(self, change: Transition[VmState]) -> None:
        if _goes(change):
            self._look_soon(f"VM {'/'.join(change.key)} goes")


def _wants_less(before: StatefulSetState, after: StatefulSetState) -> bool:
    """Whether a replica that was wanted is not any more."""
    first, last = before.start, before.start + before.replicas
    return first < last and (after.start > first or after.start + after.replicas < last)


def _goes(change: Transition[V]) -> bool:
    before, after = change.before, change.after
    return before is not None and (after is None or (after.deleting and not before.deleting))

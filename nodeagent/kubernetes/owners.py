"""Owners of Pods: the top controller of each, and whether StatefulSets and VMs want an address.

A ReplicaSet's Deployment and a Job's CronJob never change, so they are read once, as soon as their
first Pod is seen, and remembered by UID. Pods of one owner often start together: who asks while its
question is under way waits for that answer. A StatefulSet that was seen keeps addresses; that none
is there, or that it wants fewer replicas, is certain only from ``ask`` (I6).
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from typing import Final, NamedTuple, TypeVar

from core.domain.autopools.applications import PARENTS
from core.domain.fixed.kinds import replica_of
from core.domain.fixed.owners import KnownOwners, MissingOwner, StatefulSetState, VmiState, VmState
from core.domain.model import FixedKind, Owner
from core.errors import ApiError, ApiNotFound
from core.kubernetes.api import Api, Object, segment
from core.kubernetes.informer import Reflector
from core.kubernetes.workloads.owners import stateful_set_state, vm_state, vmi_state
from core.kubernetes.workloads.pods import controller_of
from core.process.concurrency import SharedWork
from nodeagent.facts import CONFIRM_S_MAX

T = TypeVar("T")

REMEMBERED_MAX: Final = 4_096
"""ReplicaSets and Jobs; those not used for longest are forgotten first."""

_COLLECTIONS: Final = {
    ("apps/v1", "ReplicaSet"): "/apis/apps/v1/namespaces/{}/replicasets/{}",
    ("batch/v1", "Job"): "/apis/batch/v1/namespaces/{}/jobs/{}",
}
_UNLISTED: Final = MissingOwner(certain=False, why="the agent does not watch virtual machines")


class _Kind(NamedTuple):
    """A kind of owners: its name, and the path of one by namespace and name."""

    name: str
    path: str


_STATEFUL_SET: Final = _Kind("StatefulSet", "/apis/apps/v1/namespaces/{}/statefulsets/{}")
_VM_INSTANCE: Final = _Kind(
    "VirtualMachineInstance",
    "/apis/kubevirt.io/v1/namespaces/{}/virtualmachineinstances/{}",
)
_VM: Final = _Kind("VirtualMachine", "/apis/kubevirt.io/v1/namespaces/{}/virtualmachines/{}")


class OwnerCache:
    """``OwnerFacts`` of a cluster, and chains of controllers."""

    def __init__(self, api: Api, stateful_sets: Reflector[StatefulSetState]) -> None:
        self._api = api
        self._stateful_sets = stateful_sets
        self._parents: OrderedDict[str, Owner | None] = OrderedDict()
        self._questions: SharedWork[str, None] = SharedWork()

    async def learn(self, owner: Owner | None) -> None:
        """See to it that ``top`` knows this controller's own. Raises ApiError."""
        path = _COLLECTIONS.get((owner.api_version, owner.kind)) if owner else None
        if owner is None or path is None or owner.uid in self._parents:
            return
        await self._questions.join(owner.uid, lambda: self._ask(owner, path))

    async def _ask(self, owner: Owner, path: str) -> None:
        try:
            one = await self._api.get(path.format(segment(owner.namespace), segment(owner.name)))
        except ApiNotFound:
            parent = None  # deleted before its Pods: then it is the top itself
        else:
            parent = controller_of(one)
        if parent is not None and PARENTS.get(owner.kind) != (parent.api_version, parent.kind):
            parent = None  # an Argo Rollout's ReplicaSet counts as the ReplicaSet
        self._parents[owner.uid] = parent
        while len(self._parents) > REMEMBERED_MAX:
            self._parents.popitem(last=False)

    def knows(self, owner: Owner | None) -> bool:
        """Whether ``top`` can be told."""
        if owner is None or (owner.api_version, owner.kind) not in _COLLECTIONS:
            return True
        return owner.uid in self._parents

    def top(self, owner: Owner) -> Owner:
        """The controller at the end of the chain.

        See docs/reference/pool-selection.md, "Top controller".
        """
        if owner.uid in self._parents:
            self._parents.move_to_end(owner.uid)
        return self._parents.get(owner.uid) or owner

    def stateful_set(self, namespace: str, name: str) -> StatefulSetState | MissingOwner:
        """As it was last seen."""
        one = self._stateful_sets.objects.get((namespace, name))
        if one is None:
            return MissingOwner(certain=False, why=f"StatefulSet {namespace}/{name} was not seen")
        return one

    def vmi(self, namespace: str, name: str) -> VmiState | MissingOwner:
        """Unknown without ``ask``."""
        return _UNLISTED

    def vm(self, namespace: str, name: str) -> VmState | MissingOwner:
        """Unknown without ``ask``."""
        return _UNLISTED

    async def ask(self, kind: FixedKind, namespace: str, name: str) -> KnownOwners:
        """What the API server says now of the owner of this replica or VM."""
        if kind == "vm":
            key = namespace, name
            vmi, vm = await asyncio.gather(
                self._find(_VM_INSTANCE, key, vmi_state), self._find(_VM, key, vm_state)
            )
            return KnownOwners({}, {key: vmi}, {key: vm})
        replica = replica_of(name)
        if replica is None:
            return KnownOwners({}, {}, {})
        key = namespace, replica.stateful_set
        return KnownOwners({key: await self._find(_STATEFUL_SET, key, stateful_set_state)}, {}, {})

    async def _find(
        self, kind: _Kind, key: tuple[str, str], read: Callable[[Object], T]
    ) -> T | MissingOwner:
        try:
            async with asyncio.timeout(CONFIRM_S_MAX):
                one = await self._api.find(kind.path.format(*map(segment, key)))
        except (ApiError, TimeoutError) as error:
            said = str(error) or f"no answer within {CONFIRM_S_MAX:g} s"
            why = f"{kind.name} {'/'.join(key)} could not be read: {said}"
            return MissingOwner(certain=False, why=why, unanswered=True)
        if one is None:
            return MissingOwner(certain=True, why=f"{kind.name} {'/'.join(key)} does not exist")
        return read(one)

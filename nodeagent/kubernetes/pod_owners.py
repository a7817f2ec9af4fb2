"""Owners of Pods: top controllers, StatefulSets and virtual machines.

The owner of a ReplicaSet or Job never changes, so each ReplicaSet and Job is read once. To keep
addresses, the watched StatefulSet is enough. Only ``read_owners``, which reads the API server, can
prove that a StatefulSet is deleted or has fewer replicas (I6 of docs/contributing/architecture.md).
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from typing import Final, NamedTuple, TypeVar

from core.domain.autopools.applications import PARENT_KINDS
from core.domain.fixed.fixed_address_owners import (
    IpamClaimState,
    KnownOwners,
    MissingOwner,
    StatefulSetState,
    VmiState,
    VmState,
    ipam_claim_of_endpoint,
    replica_of,
)
from core.domain.model import FixedKind, Owner
from core.errors import ApiError, ApiNotFound
from core.kubernetes.api_client import Api, Object, segment
from core.kubernetes.informer import Reflector
from core.kubernetes.workloads.applications import (
    ipam_claim_state,
    stateful_set_state,
    vm_state,
    vmi_state,
)
from core.kubernetes.workloads.pods import controller_of
from core.process.concurrency import SharedWork
from nodeagent.pod_facts import CONFIRM_S_MAX

T = TypeVar("T")

CACHED_MAX: Final = 4_096
"""Cached owners of ReplicaSets and Jobs."""

_COLLECTIONS: Final = {
    ("apps/v1", "ReplicaSet"): "/apis/apps/v1/namespaces/{}/replicasets/{}",
    ("batch/v1", "Job"): "/apis/batch/v1/namespaces/{}/jobs/{}",
}
_NOT_WATCHED: Final = MissingOwner(certain=False, why="the agent does not watch VMs and IPAMClaims")


class _Kind(NamedTuple):
    """A kind of owners. ``path``: the API path, with placeholders for namespace and name."""

    name: str
    path: str


_STATEFUL_SET: Final = _Kind("StatefulSet", "/apis/apps/v1/namespaces/{}/statefulsets/{}")
_VM_INSTANCE: Final = _Kind(
    "VirtualMachineInstance",
    "/apis/kubevirt.io/v1/namespaces/{}/virtualmachineinstances/{}",
)
_IPAM_CLAIM: Final = _Kind(
    "IPAMClaim", "/apis/k8s.cni.cncf.io/v1alpha1/namespaces/{}/ipamclaims/{}"
)
_VM: Final = _Kind("VirtualMachine", "/apis/kubevirt.io/v1/namespaces/{}/virtualmachines/{}")


class OwnerCache:
    """The ``OwnerLookup`` of a cluster, and the top controllers of Pods."""

    def __init__(self, api: Api, stateful_sets: Reflector[StatefulSetState]) -> None:
        self._api = api
        self._stateful_sets = stateful_sets
        self._parents: OrderedDict[str, Owner | None] = OrderedDict()
        self._reads: SharedWork[str, None] = SharedWork()

    async def load_parent(self, owner: Owner | None) -> None:
        """If ``owner`` is a ReplicaSet or Job, load its owner for ``top``. Raises ApiError."""
        path = _COLLECTIONS.get((owner.api_version, owner.kind)) if owner else None
        if owner is None or path is None or owner.uid in self._parents:
            return
        await self._reads.join(owner.uid, lambda: self._read_parent(owner, path))

    async def _read_parent(self, owner: Owner, path: str) -> None:
        try:
            owner_object = await self._api.get(
                path.format(segment(owner.namespace), segment(owner.name))
            )
        except ApiNotFound:
            parent = None  # a deleted ReplicaSet or Job counts as the top controller
        else:
            parent = controller_of(owner_object)
        if parent is not None and PARENT_KINDS.get(owner.kind) != (parent.api_version, parent.kind):
            parent = None  # for example, the ReplicaSet of an Argo Rollout is the top controller
        self._parents[owner.uid] = parent
        while len(self._parents) > CACHED_MAX:
            self._parents.popitem(last=False)

    def is_cached(self, owner: Owner | None) -> bool:
        """Whether ``top`` can return the top controller."""
        if owner is None or (owner.api_version, owner.kind) not in _COLLECTIONS:
            return True
        return owner.uid in self._parents

    def top(self, owner: Owner) -> Owner:
        """The top controller of Pods whose direct owner is ``owner``.

        See docs/reference/pool-selection.md, "Top controller".
        """
        if owner.uid in self._parents:
            self._parents.move_to_end(owner.uid)
        return self._parents.get(owner.uid) or owner

    def stateful_set(self, namespace: str, name: str) -> StatefulSetState | MissingOwner:
        """The watched StatefulSet."""
        state = self._stateful_sets.objects.get((namespace, name))
        if state is None:
            why = f"the watch has no StatefulSet {namespace}/{name}"
            return MissingOwner(certain=False, why=why)
        return state

    def vmi(self, namespace: str, name: str) -> VmiState | MissingOwner:
        """Always unknown; see ``read_owners``."""
        return _NOT_WATCHED

    def vm(self, namespace: str, name: str) -> VmState | MissingOwner:
        """Always unknown; see ``read_owners``."""
        return _NOT_WATCHED

    def ipam_claim(self, namespace: str, name: str) -> IpamClaimState | MissingOwner:
        """Always unknown; see ``read_owners``."""
        return _NOT_WATCHED

    async def read_owners(self, kind: FixedKind, namespace: str, name: str) -> KnownOwners:
        """Read the owners of an endpoint from the API server.

        ``kind``: the kind of the fixed addresses. ``namespace``, ``name``: the endpoint's key.
        """
        if kind == "ipamclaim":
            key = namespace, ipam_claim_of_endpoint(name)
            claim = await self._find(_IPAM_CLAIM, key, ipam_claim_state)
            return KnownOwners(sets={}, vmis={}, vms={}, claims={key: claim})
        if kind == "vm":
            key = namespace, name
            vmi, vm = await asyncio.gather(
                self._find(_VM_INSTANCE, key, vmi_state), self._find(_VM, key, vm_state)
            )
            return KnownOwners(sets={}, vmis={key: vmi}, vms={key: vm})
        replica = replica_of(name)
        if replica is None:
            return KnownOwners(sets={}, vmis={}, vms={})
        key = namespace, replica.stateful_set
        stateful_set = await self._find(_STATEFUL_SET, key, stateful_set_state)
        return KnownOwners(sets={key: stateful_set}, vmis={}, vms={})

    async def _find(
        self, kind: _Kind, key: tuple[str, str], read: Callable[[Object], T]
    ) -> T | MissingOwner:
        try:
            async with asyncio.timeout(CONFIRM_S_MAX):
                owner_object = await self._api.find(kind.path.format(*map(segment, key)))
        except (ApiError, TimeoutError) as error:
            cause = str(error) or f"no answer within {CONFIRM_S_MAX:g} s"
            why = f"cannot read {kind.name} {'/'.join(key)}: {cause}"
            return MissingOwner(certain=False, why=why, unanswered=True)
        if owner_object is None:
            return MissingOwner(certain=True, why=f"{kind.name} {'/'.join(key)} does not exist")
        return read(owner_object)

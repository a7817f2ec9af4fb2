"""Watches the Pods of this node that have RDMA devices, for the labels of RDMA metrics.

Multus' annotation shows that a Pod has an RDMA device. If an owner of the Pod cannot be read, the
labels have no owner.
"""

from __future__ import annotations

import sys
from collections import OrderedDict
from typing import Final, NamedTuple

from core.domain.model import Owner
from core.errors import ApiNotFound, ApiRejected
from core.kubernetes.api_client import Api, Object, ServedKind, served_kind
from core.kubernetes.informer import ObjectKey, Reflector
from core.kubernetes.work_queue import WorkQueue
from core.kubernetes.workloads.pods import addresses_of
from core.process.concurrency import until_all
from nodeagent.rdma.rdma_ports import RdmaPod

NETWORK_STATUS: Final = "k8s.v1.cni.cncf.io/network-status"
DEVICE: Final = "rdma-device"
OWNER_CHAIN_MAX: Final = 8
"""Owners in the chain from a Pod to its top owner. The top owner of a longer chain is unknown."""

CACHED_MAX: Final = 4_096
"""Cached top owners, by UID of the direct owner."""

KINDS_MAX: Final = 128


class CachedPod(NamedTuple):
    """The cached part of a Pod. ``addresses``: empty while the Pod has no RDMA device."""

    addresses: tuple[str, ...] = ()
    owner: Owner | None = None


class RdmaPodWatch:
    """A node's Pods that have RDMA devices."""

    def __init__(self, api: Api, node: str) -> None:
        self.pods = Reflector(
            api, f"/api/v1/pods?fieldSelector=spec.nodeName%3D{node}", cached_rdma_pod
        )
        self._api = api
        self._tops: OrderedDict[str, Owner] = OrderedDict()
        self._kinds: dict[tuple[str, str], ServedKind] = {}
        self._owner_queue = WorkQueue(self._load_top, "owners of Pods with RDMA devices")
        self.pods.listen(self._owner_queue.add)

    async def run(self) -> None:
        """Watch until cancelled."""
        await until_all(self.pods.run(), self._owner_queue.run())

    def by_address(self) -> dict[str, RdmaPod]:
        """Address -> Pod. An owner that is not known yet is None."""
        return {
            address: RdmaPod(*key, self._top_of(pod.owner))
            for key, pod in self.pods.objects.items()
            for address in pod.addresses
        }

    def _top_of(self, owner: Owner | None) -> Owner | None:
        if owner is None or owner.uid not in self._tops:
            return None
        self._tops.move_to_end(owner.uid)
        return self._tops[owner.uid]

    async def _load_top(self, key: ObjectKey) -> None:
        """Load the top owner of a Pod. After an ApiError, the queue calls this again."""
        pod = self.pods.objects.get(key)
        if pod is None or not pod.addresses or pod.owner is None or self._top_of(pod.owner):
            return
        try:
            top = await self._find_top(pod.owner)
        except (ApiNotFound, ApiRejected):
            return
        if top is not None:
            self._tops[pod.owner.uid] = top
            while len(self._tops) > CACHED_MAX:
                self._tops.popitem(last=False)

    async def _find_top(self, owner: Owner) -> Owner | None:
        for _ in range(OWNER_CHAIN_MAX):
            served = await self._served_kind(owner)
            if served is None:
                return None
            owner_object = await self._api.get(served.path(owner.namespace, owner.name))
            if owner_object["metadata"]["uid"] != owner.uid:
                return None
            parent = first_owner(owner_object)
            if parent is None:
                return owner if served.namespaced else owner._replace(namespace="")
            owner = parent
        return None

    async def _served_kind(self, owner: Owner) -> ServedKind | None:
        kind = owner.api_version, owner.kind
        served = self._kinds.get(kind) or await served_kind(self._api, *kind)
        if served is not None:  # an unknown kind is not cached: its CRD may be created later
            if len(self._kinds) >= KINDS_MAX:
                self._kinds.clear()
            self._kinds[kind] = served
        return served


def cached_rdma_pod(pod: Object) -> CachedPod:
    """The cached part of a Pod. A Pod of the host network has no RDMA device of its own."""
    annotations = pod["metadata"].get("annotations") or {}
    has_device = DEVICE in annotations.get(NETWORK_STATUS, "")
    if not has_device or (pod.get("spec") or {}).get("hostNetwork"):
        return CachedPod()
    return CachedPod(tuple(addresses_of(pod.get("status") or {})), first_owner(pod))


def first_owner(child: Object) -> Owner | None:
    """The first owner of an object, even if it is not the controller."""
    metadata = child["metadata"]
    for owner in metadata.get("ownerReferences") or ():
        return Owner(
            sys.intern(owner["kind"]),
            owner["name"],
            sys.intern(metadata.get("namespace", "")),
            sys.intern(owner["apiVersion"]),
            owner["uid"],
        )
    return None

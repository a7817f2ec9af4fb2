"""Pods of this node that have RDMA devices of their own, by their addresses, with their top owners.

For labels of RDMA's counters alone, and watched only where these are served. A Pod says that it has
such a device by what Multus writes on it. Its owners are read ahead, in the background, whatever
their kinds; whoever may not be read, or is gone, leaves the Pod without an owner in its labels.
"""

from __future__ import annotations

import sys
from collections import OrderedDict
from typing import Final, NamedTuple

from core.domain.model import Owner
from core.errors import ApiNotFound, ApiRejected
from core.kubernetes.api import Api, Object
from core.kubernetes.discovery import Served, served_kind
from core.kubernetes.informer import ObjectKey, Reflector
from core.kubernetes.work_queue import WorkQueue
from core.kubernetes.workloads.pods import addresses_of
from core.process.concurrency import until_all
from nodeagent.rdma.values import Tenant

NETWORK_STATUS: Final = "k8s.v1.cni.cncf.io/network-status"
DEVICE: Final = "rdma-device"
CHAIN_MAX: Final = 8
"""Owners of owners that are asked for; a chain that is longer has no known top."""

REMEMBERED_MAX: Final = 4_096
"""Tops, by who owns the Pod directly; those not used for longest are forgotten first."""

KINDS_MAX: Final = 128
"""Kinds whose place on the server is remembered; all are asked for anew when there are more."""


class CachedPod(NamedTuple):
    """What is kept of a Pod. Without ``addresses`` it is no tenant, or not yet."""

    addresses: tuple[str, ...] = ()
    owner: Owner | None = None


class KubernetesTenants:
    """``by_address`` is what is known now; ``run`` keeps it up to date."""

    def __init__(self, api: Api, node: str) -> None:
        self.pods = Reflector(
            api, f"/api/v1/pods?fieldSelector=spec.nodeName%3D{node}", kept_tenant
        )
        self._api = api
        self._tops: OrderedDict[str, Owner] = OrderedDict()
        self._kinds: dict[tuple[str, str], Served] = {}
        self._chains = WorkQueue(self._learn, "owners of Pods with RDMA devices")
        self.pods.listen(self._chains.add)

    async def run(self) -> None:
        """Watch until cancelled."""
        await until_all(self.pods.run(), self._chains.run())

    def by_address(self) -> dict[str, Tenant]:
        """Every tenant; of an owner that is not known yet, nothing."""
        return {
            address: Tenant(*key, self._top_of(kept.owner))
            for key, kept in self.pods.objects.items()
            for address in kept.addresses
        }

    def _top_of(self, owner: Owner | None) -> Owner | None:
        if owner is None or owner.uid not in self._tops:
            return None
        self._tops.move_to_end(owner.uid)
        return self._tops[owner.uid]

    async def _learn(self, key: ObjectKey) -> None:
        """Know a Pod's top owner. Raises ApiError, and is called again then."""
        kept = self.pods.objects.get(key)
        if kept is None or not kept.addresses or kept.owner is None or self._top_of(kept.owner):
            return
        try:
            top = await self._climb(kept.owner)
        except (ApiNotFound, ApiRejected):
            return
        if top is not None:
            self._tops[kept.owner.uid] = top
            while len(self._tops) > REMEMBERED_MAX:
                self._tops.popitem(last=False)

    async def _climb(self, owner: Owner) -> Owner | None:
        """From an owner to the one that nobody owns; None where that cannot be told."""
        for _ in range(CHAIN_MAX):
            served = await self._served(owner)
            if served is None:
                return None
            one = await self._api.get(served.path(owner.namespace, owner.name))
            if one["metadata"]["uid"] != owner.uid:
                return None
            above = first_owner(one)
            if above is None:
                return owner if served.namespaced else owner._replace(namespace="")
            owner = above
        return None

    async def _served(self, owner: Owner) -> Served | None:
        kind = owner.api_version, owner.kind
        found = self._kinds.get(kind) or await served_kind(self._api, *kind)
        if found is not None:  # else its definition may come later
            if len(self._kinds) >= KINDS_MAX:
                self._kinds.clear()
            self._kinds[kind] = found
        return found


def kept_tenant(one: Object) -> CachedPod:
    """Pods of the node's own network have no devices of their own."""
    annotations = one["metadata"].get("annotations") or {}
    is_tenant = DEVICE in annotations.get(NETWORK_STATUS, "")
    if not is_tenant or (one.get("spec") or {}).get("hostNetwork"):
        return CachedPod()
    return CachedPod(tuple(addresses_of(one.get("status") or {})), first_owner(one))


def first_owner(one: Object) -> Owner | None:
    """Whom the metadata of an object names first, controller or not."""
    metadata = one["metadata"]
    for owner in metadata.get("ownerReferences") or ():
        return Owner(
            sys.intern(owner["kind"]),
            owner["name"],
            sys.intern(metadata.get("namespace", "")),
            sys.intern(owner["apiVersion"]),
            owner["uid"],
        )
    return None

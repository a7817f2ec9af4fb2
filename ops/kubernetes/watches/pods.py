"""The watched Pods of all nodes, indexed by name, UID, address, VM instance and IPAMClaim.

A Pod that is found here can only keep an address, because a watch may lag behind.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Protocol, TypeVar

from core.domain.fixed.owners import VM_INSTANCE, endpoint_of_claim
from core.domain.reclaim.cluster import PodState
from core.kubernetes.informer import ObjectKey, Reflector, Transition

PODS: Final = "/api/v1/pods"

K = TypeVar("K")
Index = dict[K, tuple[ObjectKey, ...]]
"""The names of Pods by a field; tuples, which need less memory than sets."""


class _Put(Protocol):
    """``_with`` or ``_without``."""

    def __call__(self, index: Index[K], by: K, key: ObjectKey, /) -> None: ...


class PodTable:
    """Indexes of a reflector's Pods."""

    def __init__(self, pods: Reflector[PodState]) -> None:
        self._pods = pods
        self._uids: Index[str] = {}
        self._reporters: Index[str] = {}
        self._launchers: Index[ObjectKey] = {}
        pods.add_handler(self._update)

    def named(self, key: ObjectKey) -> PodState | None:
        """The Pod of that name."""
        return self._pods.objects.get(key)

    def of_uid(self, uid: str) -> Iterator[PodState]:
        """The Pod of that UID."""
        return self._pods_of(self._uids.get(uid, ()))

    def reporters(self, address: str) -> Iterator[PodState]:
        """Living Pods that report the address as their own."""
        return self._pods_of(self._reporters.get(address, ()))

    def launchers(self, endpoint: ObjectKey) -> Iterator[PodState]:
        """Pods of the VM instance or IPAMClaim that has this endpoint."""
        return self._pods_of(self._launchers.get(endpoint, ()))

    def ending_on(self, node: str) -> Iterator[PodState]:
        """Pods of a Node that are being deleted or have finished; linear in all Pods."""
        return (
            pod for pod in self._pods.objects.values() if pod.node == node and not pod.is_living
        )

    def _pods_of(self, keys: tuple[ObjectKey, ...]) -> Iterator[PodState]:
        return (self._pods.objects[key] for key in keys)

    def _update(self, change: Transition[PodState]) -> None:
        if change.before is not None:
            self._enter(change.before, change.key, _without)
        if change.after is not None:
            self._enter(change.after, change.key, _with)

    def _enter(self, pod: PodState, key: ObjectKey, put: _Put) -> None:
        put(self._uids, pod.uid, key)
        for address in pod.ips if pod.is_living else ():
            put(self._reporters, address, key)
        for endpoint in shared_endpoints(pod):
            put(self._launchers, endpoint, key)


def shared_endpoints(pod: PodState) -> Iterator[ObjectKey]:
    """The endpoints of the VM instance that a Pod runs, and of the IPAMClaims that it names."""
    if pod.owner is not None and pod.owner.kind == VM_INSTANCE:
        yield pod.namespace, pod.owner.name
    for claim in pod.claims:
        yield pod.namespace, endpoint_of_claim(claim)


def _with(index: Index[K], by: K, key: ObjectKey) -> None:
    index[by] = (*index.get(by, ()), key)


def _without(index: Index[K], by: K, key: ObjectKey) -> None:
    left = tuple(one for one in index.get(by, ()) if one != key)
    if left:
        index[by] = left
    else:
        index.pop(by, None)

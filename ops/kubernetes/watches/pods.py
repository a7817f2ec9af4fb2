"""Indexes of the watched Pods: by name, UID, address, VM instance and IPAMClaim."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Protocol, TypeVar

from core.domain.fixed.fixed_address_owners import VM_INSTANCE, endpoint_of_ipam_claim
from core.domain.reclaim.evidence import PodState
from core.kubernetes.informer import ObjectKey, Reflector, Transition

PODS_PATH: Final = "/api/v1/pods"

K = TypeVar("K")
Index = dict[K, tuple[ObjectKey, ...]]
"""UID, address or endpoint -> names of Pods. A tuple needs less memory than a set."""


class _ChangeIndex(Protocol):
    def __call__(self, index: Index[K], value: K, key: ObjectKey, /) -> None: ...


class PodTable:
    """Indexes of a reflector's Pods."""

    def __init__(self, pods: Reflector[PodState]) -> None:
        self._pods = pods
        self._uids: Index[str] = {}
        self._reporters: Index[str] = {}
        self._launchers: Index[ObjectKey] = {}
        pods.add_handler(self._update)

    def named(self, key: ObjectKey) -> PodState | None:
        """The Pod with this name."""
        return self._pods.objects.get(key)

    def of_uid(self, uid: str) -> Iterator[PodState]:
        """Yield the Pod with this UID, if it is watched."""
        return self._pods_of(self._uids.get(uid, ()))

    def pods_reporting(self, address: str) -> Iterator[PodState]:
        """Living Pods whose status has the address."""
        return self._pods_of(self._reporters.get(address, ()))

    def launchers(self, endpoint: ObjectKey) -> Iterator[PodState]:
        """The Pods of this endpoint, which belongs to a VM instance or an IPAMClaim."""
        return self._pods_of(self._launchers.get(endpoint, ()))

    def not_living_on(self, node: str) -> Iterator[PodState]:
        """Pods of a Node that are being deleted or have finished."""
        return (
            pod for pod in self._pods.objects.values() if pod.node == node and not pod.is_living
        )

    def _pods_of(self, keys: tuple[ObjectKey, ...]) -> Iterator[PodState]:
        return (self._pods.objects[key] for key in keys)

    def _update(self, change: Transition[PodState]) -> None:
        if change.before is not None:
            self._change_indexes(change.before, change.key, _remove_from)
        if change.after is not None:
            self._change_indexes(change.after, change.key, _add_to)

    def _change_indexes(self, pod: PodState, key: ObjectKey, change: _ChangeIndex) -> None:
        change(self._uids, pod.uid, key)
        if pod.is_living:
            for address in pod.ips:
                change(self._reporters, address, key)
        for endpoint in shared_endpoints(pod):
            change(self._launchers, endpoint, key)


def shared_endpoints(pod: PodState) -> Iterator[ObjectKey]:
    """The endpoints of the VM instance that a Pod runs, and of the IPAMClaims that it names."""
    if pod.owner is not None and pod.owner.kind == VM_INSTANCE:
        yield pod.namespace, pod.owner.name
    for claim in pod.claims:
        yield pod.namespace, endpoint_of_ipam_claim(claim)


def _add_to(index: Index[K], value: K, key: ObjectKey) -> None:
    index[value] = (*index.get(value, ()), key)


def _remove_from(index: Index[K], value: K, key: ObjectKey) -> None:
    others = tuple(other for other in index.get(value, ()) if other != key)
    if others:
        index[value] = others
    else:
        index.pop(value, None)

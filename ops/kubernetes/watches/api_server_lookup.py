"""The ``ClusterLookup`` of one reclaim scan: the state of Pods and owners. Pure.

A suspect is a holder of claims whose Pods or owners the scan has read. Objects that were read take
precedence over watched objects, which may be older. After ``add_watched_pods`` the lookup is
immutable, so that a thread can use it.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping
from typing import Final

from core.domain.evolution import Ledger
from core.domain.fixed.fixed_address_owners import (
    IpamClaimState,
    KnownOwners,
    MissingOwner,
    StatefulSetState,
    VmiState,
    VmState,
)
from core.domain.reclaim.evidence import Moment, NodeState, PodState
from core.kubernetes.informer import ObjectKey
from ops.kubernetes.watches.pods import PodTable, shared_endpoints
from ops.kubernetes.watches.suspects import SuspectHolder

UNREAD: Final = MissingOwner(certain=False, why="this Pod was not read in this scan")

PodAnswers = Mapping[ObjectKey, PodState | MissingOwner]


class ApiServerLookup:
    """``ClusterLookup`` from the Pods and owners that were read, and from watched Pods.

    ``pods``: the Pods that were read, and watched Pods that certainly keep their addresses.
    ``doubts``: endpoints of unknown state, because the Pods of their VM instance or IPAMClaim could
    not be listed.
    """

    __slots__ = (
        "_doubts",
        "_launchers",
        "_nodes",
        "_owners",
        "_pods",
        "_reporters",
        "_uids",
        "observed_at",
    )

    def __init__(
        self,
        observed_at: Moment,
        pods: PodAnswers,
        owners: KnownOwners,
        nodes: Mapping[str, NodeState],
        doubts: Mapping[ObjectKey, MissingOwner] = {},
    ) -> None:
        self.observed_at = observed_at
        self._doubts = doubts
        self._pods = pods
        self._owners = owners
        self._nodes = nodes
        self._uids = {pod.uid: pod for pod in pods.values() if isinstance(pod, PodState)}
        self._launchers: dict[ObjectKey, PodState] = {}
        self._reporters: dict[str, PodState] = {}

    def add_watched_pods(
        self, ledger: Ledger, suspects: Mapping[ObjectKey, SuspectHolder], table: PodTable
    ) -> None:
        """Add the watched Pods with the UIDs, VMs and addresses of the suspects."""
        read_launchers = self._read_launchers()
        for key, holder in suspects.items():
            for uid in holder.uids:
                for pod in self._current(table.of_uid(uid)):
                    self._uids.setdefault(pod.uid, pod)
            pods = (*self._current(table.launchers(key)), *read_launchers.get(key, ()))
            launchers = [pod for pod in pods if not pod.is_final]
            if launchers:
                self._launchers[key] = max(launchers, key=lambda pod: pod.is_living)
        if not suspects:
            return
        for address in _addresses(ledger, suspects):
            for pod in self._current(table.pods_reporting(address)):
                if pod.is_living:
                    self._reporters[address] = pod

    def pod(self, namespace: str, name: str) -> PodState | MissingOwner:
        """The Pod; unknown if it is not one of ``pods``."""
        key = namespace, name
        return self._doubts.get(key) or self._pods.get(key, UNREAD)

    def pod_of_uid(self, uid: str) -> PodState | None:
        """The Pod with this UID."""
        return self._uids.get(uid)

    def launcher(self, namespace: str, name: str) -> PodState | None:
        """A Pod that runs the VM instance or uses the IPAMClaim; a living Pod if there is one."""
        return self._launchers.get((namespace, name))

    def reporter(self, address: str) -> PodState | None:
        """A living Pod whose status has the address."""
        return self._reporters.get(address)

    def node(self, name: str) -> NodeState | MissingOwner:
        """The watched Node, which may be stale."""
        why = f"the watch has no Node {name}"
        return self._nodes.get(name) or MissingOwner(certain=False, why=why)

    def stateful_set(self, namespace: str, name: str) -> StatefulSetState | MissingOwner:
        """The StatefulSet as read."""
        return self._owners.stateful_set(namespace, name)

    def vmi(self, namespace: str, name: str) -> VmiState | MissingOwner:
        """The VM instance as read."""
        return self._doubts.get((namespace, name)) or self._owners.vmi(namespace, name)

    def vm(self, namespace: str, name: str) -> VmState | MissingOwner:
        """The VM as read."""
        return self._owners.vm(namespace, name)

    def ipam_claim(self, namespace: str, name: str) -> IpamClaimState | MissingOwner:
        """The IPAMClaim as read."""
        return self._owners.ipam_claim(namespace, name)

    def _read_launchers(self) -> Mapping[ObjectKey, list[PodState]]:
        launchers: dict[ObjectKey, list[PodState]] = {}
        for pod in self._uids.values():
            for endpoint in shared_endpoints(pod):
                launchers.setdefault(endpoint, []).append(pod)
        return launchers

    def _current(self, watched: Iterable[PodState]) -> Iterable[PodState]:
        """Replace watched Pods by Pods that were read; omit Pods that no longer exist."""
        for pod in watched:
            answer = self._pods.get((pod.namespace, pod.name))
            if isinstance(answer, PodState):
                if answer.uid == pod.uid:
                    yield answer
            elif answer is None or not answer.certain:
                yield pod


def _addresses(ledger: Ledger, keys: Container[ObjectKey]) -> Iterator[str]:
    for address, revised in ledger.claims.items():
        if (revised.claim.namespace, revised.claim.pod) in keys:
            yield address
    for key, endpoint in ledger.endpoints.items():
        if key in keys:
            yield from (address for address, _ in endpoint.addresses())

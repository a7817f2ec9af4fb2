"""What the rules are told of one moment: ``ClusterFacts`` about what one ledger speaks of. Pure.

Made of what was asked and what was seen; what was asked is newer and wins. What is clear keeps, so
no more is remembered about it. It never changes, so a plan may be made from it in a thread.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping
from typing import Final

from core.domain.evolution import Ledger
from core.domain.fixed.owners import KnownOwners, MissingOwner, StatefulSetState, VmiState, VmState
from core.domain.reclaim.cluster import NodeState, PodState
from core.domain.reclaim.evidence import Moment
from core.kubernetes.informer import ObjectKey
from ops.kubernetes.watches.pods import PodTable, instance_of
from ops.kubernetes.watches.suspects import SuspectHolder

UNASKED: Final = MissingOwner(certain=False, why="nobody has asked about this Pod")

PodAnswers = Mapping[ObjectKey, PodState | MissingOwner]


class LedgerFacts:
    """``ClusterFacts`` from the answers about Pods and owners, and from Pods that were seen.

    ``doubts``: VM instances whose Pods could not be listed. Nothing is known of those.
    """

    __slots__ = (
        "_doubts",
        "_launchers",
        "_nodes",
        "_owners",
        "_pods",
        "_reporters",
        "_uids",
        "seen",
    )

    def __init__(
        self,
        seen: Moment,
        pods: PodAnswers,
        owners: KnownOwners,
        nodes: Mapping[str, NodeState],
        doubts: Mapping[ObjectKey, MissingOwner] = {},
    ) -> None:
        self.seen = seen
        self._doubts = doubts
        self._pods = pods
        self._owners = owners
        self._nodes = nodes
        self._uids = {pod.uid: pod for pod in pods.values() if isinstance(pod, PodState)}
        self._launchers: dict[ObjectKey, PodState] = {}
        self._reporters: dict[str, PodState] = {}

    def remember(
        self, ledger: Ledger, suspects: Mapping[ObjectKey, SuspectHolder], table: PodTable
    ) -> None:
        """Add what was seen about the UIDs, VMs and addresses of those who are not clear."""
        asked = self._asked_launchers()
        for key, one in suspects.items():
            for uid in one.uids:
                for pod in self._current(table.of_uid(uid)):
                    self._uids.setdefault(pod.uid, pod)
            found = (*self._current(table.launchers(key)), *asked.get(key, ()))
            launchers = [pod for pod in found if not pod.is_final]
            if launchers:
                self._launchers[key] = max(launchers, key=lambda pod: pod.is_living)
        for address in _addresses(ledger, suspects) if suspects else ():
            for pod in self._current(table.reporters(address)):
                if pod.is_living:
                    self._reporters[address] = pod

    def pod(self, namespace: str, name: str) -> PodState | MissingOwner:
        """As it was answered, or as it was seen where that keeps everything."""
        key = namespace, name
        return self._doubts.get(key) or self._pods.get(key, UNASKED)

    def pod_of_uid(self, uid: str) -> PodState | None:
        """From whatever was seen."""
        return self._uids.get(uid)

    def launcher(self, namespace: str, name: str) -> PodState | None:
        """From whatever was seen, a living one first."""
        return self._launchers.get((namespace, name))

    def reporter(self, address: str) -> PodState | None:
        """From whatever was seen."""
        return self._reporters.get(address)

    def node(self, name: str) -> NodeState | MissingOwner:
        """As it was last seen; its state is a switch, and no evidence."""
        return self._nodes.get(name) or MissingOwner(certain=False, why=f"nobody knows Node {name}")

    def stateful_set(self, namespace: str, name: str) -> StatefulSetState | MissingOwner:
        """As it was answered."""
        return self._owners.stateful_set(namespace, name)

    def vmi(self, namespace: str, name: str) -> VmiState | MissingOwner:
        """As it was answered."""
        return self._doubts.get((namespace, name)) or self._owners.vmi(namespace, name)

    def vm(self, namespace: str, name: str) -> VmState | MissingOwner:
        """As it was answered."""
        return self._owners.vm(namespace, name)

    def _asked_launchers(self) -> Mapping[ObjectKey, list[PodState]]:
        found: dict[ObjectKey, list[PodState]] = {}
        for pod in self._uids.values():
            instance = instance_of(pod)
            if instance is not None:
                found.setdefault(instance, []).append(pod)
        return found

    def _current(self, seen: Iterable[PodState]) -> Iterable[PodState]:
        """These Pods, but as an answer about them says, and without those that it says are gone."""
        for pod in seen:
            told = self._pods.get((pod.namespace, pod.name))
            if isinstance(told, PodState):
                if told.uid == pod.uid:
                    yield told
            elif told is None or not told.certain:
                yield pod


def _addresses(ledger: Ledger, keys: Container[ObjectKey]) -> Iterator[str]:
    """What these names hold or show."""
    for address, held in ledger.claims.items():
        if (held.claim.namespace, held.claim.pod) in keys:
            yield address
    for key, endpoint in ledger.endpoints.items():
        if key in keys:
            yield from (address for address, _ in endpoint.addresses())

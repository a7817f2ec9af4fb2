"""Owners of Pods: the top controller of each, and the StatefulSets there are.

A ReplicaSet's Deployment and a Job's CronJob never change, so they are read once, as soon as their
first Pod is seen, and remembered by UID. Pods of one owner often start together: who asks while its
question is under way waits for that answer.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from core.concurrency import SharedWork
from core.domain.autopools.applications import PARENTS
from core.domain.fixed.owners import Missing, StatefulSetState, VmiState, VmState
from core.domain.model import Owner
from core.errors import ApiNotFound
from core.kubernetes.api import Api
from core.kubernetes.informer import Follower
from core.kubernetes.workloads.pods import controller_of

REMEMBERED_MAX: Final = 4_096
"""ReplicaSets and Jobs; those not used for longest are forgotten first."""

_COLLECTIONS: Final = {
    ("apps/v1", "ReplicaSet"): "/apis/apps/v1/namespaces/{}/replicasets/{}",
    ("batch/v1", "Job"): "/apis/batch/v1/namespaces/{}/jobs/{}",
}
_UNLISTED: Final = Missing(certain=False, why="the agent does not watch virtual machines")


class Owners:
    """``OwnerFacts`` of a cluster, and chains of controllers."""

    def __init__(self, api: Api, stateful_sets: Follower[StatefulSetState]) -> None:
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
            one = await self._api.get(path.format(owner.namespace, owner.name))
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
        """The controller at the end of the chain (spec/ipam.md 0)."""
        if owner.uid in self._parents:
            self._parents.move_to_end(owner.uid)
        return self._parents.get(owner.uid) or owner

    def stateful_set(self, namespace: str, name: str) -> StatefulSetState | Missing:
        """As it was last seen; without a list of them nobody can tell."""
        if not self._stateful_sets.listed.is_set() or self._stateful_sets.fault:
            return Missing(certain=False, why="StatefulSets are not watched at the moment")
        one = self._stateful_sets.objects.get((namespace, name))
        if one is None:
            return Missing(certain=True, why=f"there is no StatefulSet {namespace}/{name}")
        return one

    def vmi(self, namespace: str, name: str) -> VmiState | Missing:
        """Nobody knows here; the controller does."""
        return _UNLISTED

    def vm(self, namespace: str, name: str) -> VmState | Missing:
        """Nobody knows here."""
        return _UNLISTED

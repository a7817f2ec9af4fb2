"""The source of reclaiming in a cluster: Pods of all nodes, Nodes, and owners of fixed addresses.

Every controller has one, since any of them may carry out any look. What a look says is free was
asked of the API server after the claims were read, or reported by its watch; while it does not
answer, or shows no Pods or Nodes at all, nothing is free (I6).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Final

from core.domain.evolution import Ledger
from core.domain.fixed.kinds import FixedAddressSwitches
from core.domain.fixed.owners import MissingOwner
from core.domain.reclaim.cluster import ClusterFacts, NodeState, PodState
from core.domain.reclaim.evidence import Moment
from core.errors import ApiError, NotReady
from core.kubernetes.api import Api
from core.kubernetes.informer import ObjectKey, Transition
from core.kubernetes.workloads.pods import node_state, pod_state
from core.process.concurrency import until_all
from ops.kubernetes.watches.collection import Collection
from ops.kubernetes.watches.ledger_facts import LedgerFacts, PodAnswers
from ops.kubernetes.watches.owners import OwnerWatch
from ops.kubernetes.watches.pending_changes import PendingChanges, deletion_of
from ops.kubernetes.watches.pods import PODS, PodTable, instance_of
from ops.kubernetes.watches.suspects import WatchedObjects, questions
from workflows.jobs.reclaim.facts import Change, PodChange

NODES: Final = "/api/v1/nodes"
LISTED_S_MAX: Final = 30.0
"""How long somebody waits who looks but once."""

MAY_WE_LIST: Final = "does the API server answer, and may we list?"


class ApiServerFacts:
    """A ``FactsSource``; ``run`` keeps it up to date. ``switches``: whose addresses are fixed."""

    def __init__(self, api: Api, switches: FixedAddressSwitches) -> None:
        self.pods = Collection(api, "Pod", PODS, pod_state)
        self.nodes = Collection(api, "Node", NODES, node_state)
        self.owners = OwnerWatch(api, self._look_soon)
        self.table = PodTable(self.pods.seen)
        self._switches = switches
        self._listeners: set[PendingChanges] = set()
        self.pods.seen.add_handler(self._on_pod)
        self.nodes.seen.add_handler(self._on_node)

    @property
    def fault(self) -> str:
        """Why it may not know what there is; "" when all is well."""
        return self.pods.fault or self.nodes.fault or self.owners.sets.fault

    async def run(self) -> None:
        """Watch until cancelled."""
        await until_all(self.pods.run(), self.nodes.run(), self.owners.run())

    async def listed(self) -> None:
        """Wait until everything was listed once. Raises NotReady when that takes too long."""
        try:
            async with asyncio.timeout(LISTED_S_MAX):
                for one in (self.pods, self.nodes, self.owners.sets):
                    await one.seen.listed.wait()
        except TimeoutError:
            raise NotReady(self.fault, remedy=MAY_WE_LIST) from None

    async def facts(self, ledger: Ledger, claims_read: Moment) -> ClusterFacts:
        """See ``FactsSource``. Raises NotReady before Pods and Nodes were listed once."""
        if not (self.pods.seen.listed.is_set() and self.nodes.seen.listed.is_set()):
            raise NotReady(self.pods.fault or self.nodes.fault, remedy=MAY_WE_LIST)
        closely = len(ledger.endpoints) <= 1
        seen = WatchedObjects(self.table.named, self._of_uid, self.owners.seen())
        asked = questions(ledger, self._switches, seen, closely=closely)
        owners = await self.owners.ask(asked.owners())
        launchers, doubts = await self._launchers(asked.machines(owners))
        pods = {**asked.answers, **launchers, **await self._ask(asked.pods)}
        found = LedgerFacts(claims_read, pods, owners, self._nodes(), doubts)
        found.remember(ledger, asked.suspects, self.table)
        return found

    async def changes(self) -> AsyncIterator[Change]:
        """See ``FactsSource``."""
        news = PendingChanges()
        self._listeners.add(news)
        try:
            if not self.pods.seen.listed.is_set():
                await self.pods.seen.listed.wait()
                news.look("Pods were listed")
            while True:
                yield await news.next()
        finally:
            self._listeners.discard(news)

    async def _ask(self, keys: frozenset[ObjectKey]) -> PodAnswers:
        """About Pods; what a cluster without any Pod or Node says proves nothing."""
        for each in (self.pods, self.nodes):
            if not each.seen.objects:
                why = f"the API server shows no {each.kind} at all, which no cluster does"
                return dict.fromkeys(keys, MissingOwner(certain=False, why=why))
        return await self.pods.ask(keys)

    async def _launchers(
        self, machines: frozenset[ObjectKey]
    ) -> tuple[dict[ObjectKey, PodState], dict[ObjectKey, MissingOwner]]:
        """The Pods of VM instances as the API server lists them, and the VMs it did not answer for.

        A launcher is not named after its VM, so one that the watch lacks is found by no name.
        """
        found: dict[ObjectKey, PodState] = {}
        doubts: dict[ObjectKey, MissingOwner] = {}
        for namespace in sorted({namespace for namespace, _ in machines}):
            try:
                pods = await self.pods.within(namespace)
            except ApiError as error:
                why = f"the Pods of namespace {namespace} could not be listed: {error}"
                missing = MissingOwner(certain=False, why=why, unanswered=error.retryable)
                doubts |= {key: missing for key in machines if key[0] == namespace}
                continue
            found |= {
                (one.namespace, one.name): one for one in pods if instance_of(one) in machines
            }
        return found, doubts

    def _of_uid(self, uid: str) -> PodState | None:
        return next(self.table.of_uid(uid), None)

    def _nodes(self) -> Mapping[str, NodeState]:
        return {name: node for (_, name), node in self.nodes.seen.objects.items()}

    def _on_pod(self, change: Transition[PodState]) -> None:
        before, after = change.before, change.after
        if before is not None and (after is None or after.uid != before.uid):
            if change.reported:
                self._tell(deletion_of(before))
            else:
                self._look_soon(f"Pod {'/'.join(change.key)} is not listed any more")
        if after is not None and after != before and not after.is_living:
            self._tell(PodChange(after))

    def _on_node(self, change: Transition[NodeState]) -> None:
        """The switches of a Node that changed may let go of Pods that are ending."""
        before, after = change.before, change.after
        if before is not None and after is not None and after.ready != before.ready:
            for pod in self.table.ending_on(after.name):
                self._tell(PodChange(pod))

    def _tell(self, change: PodChange) -> None:
        for news in self._listeners:
            news.tell(change)

    def _look_soon(self, why: str) -> None:
        for news in self._listeners:
            news.look(why)

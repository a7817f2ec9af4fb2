"""Facts for reclaim scans from the API server: Pods, Nodes, and owners of fixed addresses.

A scan releases an address only on evidence: a read of the API server after the read of the claims,
or a deletion that the watch reported. No address is released while the API server does not answer,
or returns no Pods or no Nodes (I6 of docs/contributing/architecture.md).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Final

from core.domain.evolution import Ledger
from core.domain.fixed.fixed_address_owners import FixedAddressSwitches, MissingOwner
from core.domain.reclaim.evidence import ClusterLookup, Moment, NodeState, PodState
from core.errors import ApiError, NotReady
from core.kubernetes.api_client import Api
from core.kubernetes.informer import ObjectKey, Transition
from core.kubernetes.workloads.pods import node_state, pod_state
from core.process.concurrency import until_all
from ops.kubernetes.watches.api_server_lookup import ApiServerLookup, PodAnswers
from ops.kubernetes.watches.collection import Collection
from ops.kubernetes.watches.owners import OwnerWatch
from ops.kubernetes.watches.pending_changes import PendingChanges, deletion_of
from ops.kubernetes.watches.pods import PODS_PATH, PodTable, shared_endpoints
from ops.kubernetes.watches.suspects import WatchedObjects, plan_lookups
from workflows.jobs.reclaim.reclaim_context import Change, PodChange

NODES_PATH: Final = "/api/v1/nodes"
LISTED_S_MAX: Final = 30.0

LIST_REMEDY: Final = (
    "check that the API server answers, and the right to list Pods, Nodes and StatefulSets"
)


class ApiServerFactsSource:
    """The ``ReclaimFactsSource`` of a cluster."""

    def __init__(self, api: Api, switches: FixedAddressSwitches) -> None:
        self.pods = Collection(api, "Pod", PODS_PATH, pod_state)
        self.nodes = Collection(api, "Node", NODES_PATH, node_state)
        self.owners = OwnerWatch(api, self._request_scan, switches)
        self.table = PodTable(self.pods.seen)
        self._switches = switches
        self._listeners: set[PendingChanges] = set()
        self.pods.seen.add_handler(self._on_pod)
        self.nodes.seen.add_handler(self._on_node)

    @property
    def fault(self) -> str:
        """Why the facts may be incomplete or stale, or ""."""
        return self.pods.fault or self.nodes.fault or self.owners.stateful_sets.fault

    async def run(self) -> None:
        """Watch until cancelled."""
        await until_all(self.pods.run(), self.nodes.run(), self.owners.run())

    async def listed(self) -> None:
        """Wait until everything was listed once. Raises NotReady after ``LISTED_S_MAX``."""
        try:
            async with asyncio.timeout(LISTED_S_MAX):
                for collection in (self.pods, self.nodes, self.owners.stateful_sets):
                    await collection.seen.listed.wait()
        except TimeoutError:
            raise NotReady(self.fault, remedy=LIST_REMEDY) from None

    async def facts(self, ledger: Ledger, claims_read: Moment) -> ClusterLookup:
        """See ``ReclaimFactsSource``. Raises NotReady before Pods and Nodes were listed once."""
        if not (self.pods.seen.listed.is_set() and self.nodes.seen.listed.is_set()):
            raise NotReady(self.pods.fault or self.nodes.fault, remedy=LIST_REMEDY)
        # The scan of one endpoint reads every holder, because the watch may lack its last change.
        is_single = len(ledger.endpoints) <= 1
        watched = WatchedObjects(self.table.named, self._of_uid, self.owners.seen())
        lookups = plan_lookups(ledger, self._switches, watched, read_all=is_single)
        owners = await self.owners.read(lookups.owners())
        launchers, doubts = await self._launchers(lookups.endpoints_to_list(owners))
        pods = {**lookups.answers, **launchers, **await self._read_pods(lookups.pods)}
        facts = ApiServerLookup(claims_read, pods, owners, self._nodes(), doubts)
        facts.add_watched_pods(ledger, lookups.suspects, self.table)
        return facts

    async def deleted_nodes(self, nodes: Iterable[str]) -> frozenset[str]:
        """See ``ReclaimFactsSource``. If the watch has no Nodes, no Node counts as deleted."""
        watched = self.nodes.seen.objects
        missing = [("", node) for node in nodes if ("", node) not in watched]
        answers = await self.nodes.read(missing) if watched else {}
        return frozenset(
            name
            for (_, name), answer in answers.items()
            if isinstance(answer, MissingOwner) and answer.certain
        )

    async def changes(self) -> AsyncIterator[Change]:
        """See ``ReclaimFactsSource``."""
        changes = PendingChanges()
        self._listeners.add(changes)
        try:
            if not self.pods.seen.listed.is_set():
                await self.pods.seen.listed.wait()
                changes.request_scan("Pods were listed")
            while True:
                yield await changes.next()
        finally:
            self._listeners.discard(changes)

    async def _read_pods(self, keys: frozenset[ObjectKey]) -> PodAnswers:
        """Read Pods. All are unknown if the watch has no Pods or no Nodes at all."""
        for collection in (self.pods, self.nodes):
            if not collection.seen.objects:
                why = f"the API server returned no {collection.kind} at all; every cluster has some"
                return dict.fromkeys(keys, MissingOwner(certain=False, why=why))
        return await self.pods.read(keys)

    async def _launchers(
        self, endpoints: frozenset[ObjectKey]
    ) -> tuple[dict[ObjectKey, PodState], dict[ObjectKey, MissingOwner]]:
        """Return the Pods of VM instances and IPAMClaims, and the endpoints whose listing failed.

        The name of such a Pod does not contain the name of its VM or claim, so all Pods of the
        namespace are listed.
        """
        launchers: dict[ObjectKey, PodState] = {}
        doubts: dict[ObjectKey, MissingOwner] = {}
        for namespace in sorted({namespace for namespace, _ in endpoints}):
            try:
                pods = await self.pods.list_namespace(namespace)
            except ApiError as error:
                why = f"the Pods of namespace {namespace} could not be listed: {error}"
                missing = MissingOwner(certain=False, why=why, unanswered=error.retryable)
                doubts |= {key: missing for key in endpoints if key[0] == namespace}
                continue
            launchers |= {
                (pod.namespace, pod.name): pod
                for pod in pods
                if not endpoints.isdisjoint(shared_endpoints(pod))
            }
        return launchers, doubts

    def _of_uid(self, uid: str) -> PodState | None:
        return next(self.table.of_uid(uid), None)

    def _nodes(self) -> Mapping[str, NodeState]:
        return {name: node for (_, name), node in self.nodes.seen.objects.items()}

    def _on_pod(self, change: Transition[PodState]) -> None:
        before, after = change.before, change.after
        if before is not None and (after is None or after.uid != before.uid):
            if change.reported:  # by a delete event; absence from a list is not evidence
                self._publish(deletion_of(before))
            else:
                self._request_scan(f"Pod {'/'.join(change.key)} is not listed any more")
        if after is not None and after != before and not after.is_living:
            self._publish(PodChange(after))

    def _on_node(self, change: Transition[NodeState]) -> None:
        before, after = change.before, change.after
        if before is not None and after is not None and after.ready != before.ready:
            for pod in self.table.not_living_on(after.name):
                self._publish(PodChange(pod))

    def _publish(self, change: PodChange) -> None:
        for listener in self._listeners:
            listener.add(change)

    def _request_scan(self, why: str) -> None:
        for listener in self._listeners:
            listener.request_scan(why)

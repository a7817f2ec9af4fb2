"""What is known without Kubernetes: records take the place of API objects, the log that of a watch.

A Pod whose record an operator has deleted is gone, and so is every Pod on a node whose record was
deleted, unless a record or a claim is newer than the deletion; a StatefulSet whose record was
deleted wants no replica. A Pod without a record was never
promised to have one: nobody can tell (I6). Deletions are read from the live log; one that has gone
to the archive before anybody saw it frees nothing.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from core.domain.events import RecordDeleted, Recorded
from core.domain.evolution import Ledger, RecordKey
from core.domain.fixed.owners import STATEFUL_SET, MissingOwner, StatefulSetState, replica_of
from core.domain.model import Endpoint
from core.domain.reclaim.cluster import ClusterFacts, DeletionNotice, PodState, StandaloneCluster
from core.domain.reclaim.evidence import Moment
from core.errors import LogCorrupt
from core.eventstore.keys import Keys
from core.eventstore.kinds import ENDPOINTS
from core.eventstore.kv import Get, KeyValue, KeyValueStore
from core.eventstore.log import LogReader
from workflows.jobs.deletions import Deletion, Deletions, about_records, deletion_of
from workflows.jobs.reclaim.context import PodChange

POD: Final = "Pod"
NODE: Final = "Node"

NOBODY: Final = DeletionNotice("", "")


_log: Final = logging.getLogger(__name__)


class RecordFacts(StandaloneCluster):
    """Facts about what is in the ledger, from ``deletions`` of records and an operator's word."""

    __slots__ = ("_claimed", "_gone", "_recorded")

    def __init__(
        self,
        ledger: Ledger,
        deletions: Mapping[RecordKey, Deletion],
        seen: Moment,
        word: DeletionNotice = NOBODY,
    ) -> None:
        super().__init__(ledger, word, seen)
        self._gone = dict(_deletions_about(ledger, deletions)) if deletions else {}
        self._claimed = _newest_claims(ledger) if self._gone else {}
        self._recorded = _recorded_pods(ledger, self._gone)

    def pod(self, namespace: str, name: str) -> PodState | MissingOwner:
        """Gone if its record or its node's was deleted and nothing came after, else unknown."""
        said = super().pod(namespace, name)
        if not self._gone or isinstance(said, PodState) or said.certain:
            return said
        pod: RecordKey = POD, namespace, name
        endpoint = self._endpoints.get((namespace, name))
        node: RecordKey = NODE, "", endpoint.node if endpoint is not None else ""
        for key in (pod, node):
            found = self._gone.get(key)
            if found is None:
                continue
            if self._claimed.get((namespace, name), 0) <= found.position:
                return MissingOwner(certain=True, why=found.words(key))
            late = f"Pod {namespace}/{name} got an address after its record was deleted"
            return MissingOwner(certain=False, why=late)
        return said

    def stateful_set(self, namespace: str, name: str) -> StatefulSetState | MissingOwner:
        """As its record says; gone if that was deleted, else unknown."""
        key: RecordKey = STATEFUL_SET, namespace, name
        found = self._gone.get(key)
        if found is None:
            return super().stateful_set(namespace, name)
        return MissingOwner(certain=True, why=found.words(key))

    def pod_of_uid(self, uid: str) -> PodState | None:
        """A Pod that an operator describes is living, unless it or its node is said to be gone."""
        found = self._recorded.get(uid)
        if found is None or self._says_gone(found):
            return None
        return found

    def _says_gone(self, pod: PodState) -> bool:
        said = super().pod(pod.namespace, pod.name)
        return not isinstance(said, PodState) and said.certain


def _deletions_about(
    ledger: Ledger, deletions: Mapping[RecordKey, Deletion]
) -> Iterable[tuple[RecordKey, Deletion]]:
    """Those that concern the ledger and were not taken back; linear in the smaller one."""
    if len(deletions) <= len(ledger.claims) + len(ledger.endpoints):
        wanted: Iterable[RecordKey] = deletions
    else:
        pods = {(POD, *key) for key in ledger.endpoints}
        pods |= {(POD, one.claim.namespace, one.claim.pod) for one in ledger.claims.values()}
        wanted = pods | {(NODE, "", endpoint.node) for endpoint in ledger.endpoints.values()}
        wanted |= {
            (STATEFUL_SET, namespace, replica.stateful_set)
            for _, namespace, name in pods
            if (replica := replica_of(name)) is not None
        }
    for key in wanted:
        if key in deletions and key not in ledger.records:
            yield key, deletions[key]


def _newest_claims(ledger: Ledger) -> dict[tuple[str, str], int]:
    newest: dict[tuple[str, str], int] = {}
    for held in ledger.claims.values():
        key = held.claim.namespace, held.claim.pod
        newest[key] = max(newest.get(key, 0), held.revision)
    return newest


def _recorded_pods(ledger: Ledger, gone: Mapping[RecordKey, Deletion]) -> dict[str, PodState]:
    found: dict[str, PodState] = {}
    for kind, namespace, name in ledger.records:
        endpoint = ledger.endpoints.get((namespace, name)) if kind == POD else None
        if endpoint is not None and (NODE, "", endpoint.node) not in gone:
            found[endpoint.uid] = PodState(namespace, name, endpoint.uid, node=endpoint.node)
    return found


class EndpointsByNode(NamedTuple):
    """All endpoints as of ``revision``, by the name of their node."""

    revision: int
    endpoints: Mapping[str, Sequence[KeyValue]]


NOTHING_READ: Final = EndpointsByNode(0, {})


class StandalonePodFacts:
    """Follows the log for deleted records; what it has read it does not read again."""

    def __init__(self, store: KeyValueStore, keys: Keys) -> None:
        self._store = store
        self._keys = keys
        self._reader = LogReader(store, keys)
        self._deletions = Deletions(store, keys)

    async def facts(
        self, ledger: Ledger, claims_read: Moment, word: DeletionNotice = NOBODY
    ) -> ClusterFacts:
        """See ``FactsSource``; ``word``: what an operator says besides.

        Raises StoreUnavailable, LogCorrupt.
        """
        await self._deletions.catch_up()
        return RecordFacts(ledger, self._deletions.found, claims_read, word)

    async def changes(self) -> AsyncIterator[PodChange]:
        """See ``FactsSource``. Raises StoreUnavailable, LogCorrupt, LogGap, Compacted."""
        by_node = NOTHING_READ
        async for segments, _ in self._reader.follow(await self._reader.cursor_now()):
            if not segments:
                by_node = NOTHING_READ
            for one in about_records(segments):
                event = one.event
                if not isinstance(event, RecordDeleted):
                    continue
                found: Sequence[KeyValue] = ()
                if event.kind == POD:
                    found = await self._on_pod(event)
                elif event.kind == NODE:
                    if by_node.revision < one.position:
                        by_node = await self._by_node()
                    found = by_node.endpoints.get(event.name, ())
                for change in self._gone(one, event, found):
                    yield change

    def _gone(
        self, one: Recorded, event: RecordDeleted, found: Iterable[KeyValue]
    ) -> Iterator[PodChange]:
        """The Pods that a deleted record speaks of. What was written later speaks of others."""
        words = deletion_of(one).words(event)
        for endpoint in self._read(kv for kv in found if kv.mod_revision < one.position):
            pod = PodState(endpoint.namespace, endpoint.name, endpoint.uid, node=endpoint.node)
            yield PodChange(pod, words, one.event_id, one.cause.traceparent)

    async def _on_pod(self, event: RecordDeleted) -> tuple[KeyValue, ...]:
        get = Get(self._keys.endpoint(event.namespace, event.name))
        return (await self._store.read([get])).ranges[0].kvs

    async def _by_node(self) -> EndpointsByNode:
        """One read of all endpoints, for each node of a rack whose records are deleted together."""
        result = await self._store.read([Get(*self._keys.range_of("endpoint"))])
        found: dict[str, list[KeyValue]] = {}
        for kv in result.ranges[0].kvs:
            for endpoint in self._read([kv]):
                found.setdefault(endpoint.node, []).append(kv)
        return EndpointsByNode(result.revision, found)

    def _read(self, found: Iterable[KeyValue]) -> Iterator[Endpoint]:
        """The endpoints that can be read; of the others nothing is said to be gone."""
        for kv in found:
            try:
                yield ENDPOINTS.decode(self._keys, kv.key, kv.value)
            except LogCorrupt as error:
                _log.error("left out: %s", error)

"""Pod, Node and StatefulSet state without Kubernetes, from the records that an operator applies.

Only a recorded deletion proves that an object is gone. A Pod is gone when its record or its node's
record was deleted. A newer record of the object, or a newer claim of the Pod, revokes the deletion.
A deletion that was archived before it was read frees no address.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from core.domain.events import RecordDefined, RecordDeleted, Recorded
from core.domain.evolution import Ledger, RecordKey
from core.domain.fixed.fixed_address_owners import (
    STATEFUL_SET,
    MissingOwner,
    RecordOwners,
    StatefulSetState,
    replica_of,
)
from core.domain.model import Endpoint
from core.domain.reclaim.evidence import (
    ClusterLookup,
    DeletionNotice,
    Moment,
    NodeState,
    PodState,
    utc,
)
from core.errors import LogCorrupt, LogGap
from core.eventstore.keys import Keys
from core.eventstore.kinds import ENDPOINT_KEYS
from core.eventstore.kv import Get, KeyValue, KeyValueStore
from core.eventstore.log_reader import Cursor, LogReader, Segment
from workflows.jobs.reclaim.reclaim_context import PodChange

DELETIONS_MAX: Final = 100_000
_log: Final = logging.getLogger(__name__)

_RECORD_EVENT_PREFIX: Final = b"record-"
"""The prefix of the event types ``RecordDefined`` and ``RecordDeleted`` in a segment."""


class Deletion(NamedTuple):
    """The deletion of a record. ``position``: in the log. ``at_s``: Unix seconds."""

    position: int
    actor: str
    at_s: float

    def text(self, key: RecordKey) -> str:
        """The evidence that the record was deleted."""
        kind, namespace, name = key
        subject = f"{namespace}/{name}" if namespace else name
        return f"{self.actor} deleted the record of {kind} {subject}, {utc(self.at_s)}"


class Deletions:
    """Reads deletions from the live log. ``deleted``: records that were not defined again."""

    def __init__(self, store: KeyValueStore, keys: Keys) -> None:
        self.deleted: dict[RecordKey, Deletion] = {}
        self._reader = LogReader(store, keys)
        self._cursor: Cursor | None = None

    async def catch_up(self) -> None:
        """Read new segments. Raises StoreUnavailable.

        Drops all deletions before an unreadable segment, which may define their records again.
        """
        segments, self._cursor = await self._new_segments()
        for segment in segments:
            try:
                for event in events_of_record_segments([segment]):
                    self._apply(event)
            except LogCorrupt as error:
                self.deleted.clear()
                _log.error(
                    "a segment of the log is unreadable; no address is released because of records"
                    " deleted before it: %s",
                    error,
                )

    async def _new_segments(self) -> tuple[list[Segment], Cursor]:
        if self._cursor is not None:
            try:
                return await self._reader.catch_up(self._cursor)
            except LogGap:
                # A segment was archived before it was read.
                self.deleted.clear()
        return await self._reader.live()

    def _apply(self, recorded: Recorded) -> None:
        match recorded.event:
            case RecordDefined(kind=kind, namespace=namespace, name=name):
                self.deleted.pop((kind, namespace, name), None)
            case RecordDeleted(kind, namespace, name):
                key = kind, namespace, name
                self.deleted.pop(key, None)
                self.deleted[key] = deletion_of(recorded)
                if len(self.deleted) > DELETIONS_MAX:
                    del self.deleted[next(iter(self.deleted))]


def events_of_record_segments(segments: Iterable[Segment]) -> Iterable[Recorded]:
    """All events of the segments that contain a record event."""
    for segment in segments:
        if _RECORD_EVENT_PREFIX in segment.data:
            yield from segment.events()


def deletion_of(recorded: Recorded) -> Deletion:
    """The deletion that an event records."""
    return Deletion(recorded.position, recorded.cause.actor, recorded.recorded_at_ms / 1000)


POD: Final = "Pod"
NODE: Final = "Node"

NO_NOTICE: Final = DeletionNotice(actor="", reason="")

NOT_LISTED: Final = "Pods are not listed in standalone mode: DEL, GC or an operator ends the claims"


class RecordLookup(RecordOwners):
    """The ``ClusterLookup`` of standalone mode.

    An operator's notice reports Pods, or all Pods of a node, as gone. One notice proves it.
    """

    __slots__ = (
        "_claim_revisions",
        "_deleted",
        "_endpoints",
        "_notice",
        "_recorded",
        "observed_at",
    )

    def __init__(
        self,
        ledger: Ledger,
        deletions: Mapping[RecordKey, Deletion],
        claims_read: Moment,
        notice: DeletionNotice = NO_NOTICE,
    ) -> None:
        super().__init__(ledger.records)
        self.observed_at = claims_read
        self._endpoints = ledger.endpoints
        self._notice = notice
        self._deleted = dict(_deletions_about(ledger, deletions)) if deletions else {}
        self._claim_revisions = _newest_claims(ledger) if self._deleted else {}
        self._recorded = _recorded_pods(ledger, self._deleted)

    def pod(self, namespace: str, name: str) -> PodState | MissingOwner:
        """Gone if the operator reports the Pod, or if a record was deleted; else unknown."""
        reported = self._reported_gone(namespace, name)
        if reported is not None:
            return reported
        pod: RecordKey = POD, namespace, name
        endpoint = self._endpoints.get((namespace, name))
        node: RecordKey = NODE, "", endpoint.node if endpoint is not None else ""
        why = NOT_LISTED
        for key in (pod, node):
            deletion = self._deleted.get(key)
            if deletion is None:
                continue
            if self._claim_revisions.get((namespace, name), 0) <= deletion.position:
                return MissingOwner(certain=True, why=deletion.text(key))
            why = f"Pod {namespace}/{name} got an address after its record was deleted"
        return MissingOwner(certain=False, why=why)

    def _reported_gone(self, namespace: str, name: str) -> MissingOwner | None:
        actor, reason, pods, nodes = self._notice
        endpoint = self._endpoints.get((namespace, name))
        if (namespace, name) in pods:
            subject = f"Pod {namespace}/{name}"
        elif endpoint is not None and endpoint.node in nodes:
            subject = f"node {endpoint.node}"
        else:
            return None
        why = f"{actor} reports that {subject} is gone: {reason}"
        return MissingOwner(certain=True, why=why, direct=True)  # direct: one report is enough

    def stateful_set(self, namespace: str, name: str) -> StatefulSetState | MissingOwner:
        """The recorded state; gone if the record was deleted, else unknown."""
        key: RecordKey = STATEFUL_SET, namespace, name
        deletion = self._deleted.get(key)
        if deletion is None:
            return super().stateful_set(namespace, name)
        return MissingOwner(certain=True, why=deletion.text(key))

    def pod_of_uid(self, uid: str) -> PodState | None:
        """The recorded Pod, unless the operator reports the Pod or node as gone."""
        pod = self._recorded.get(uid)
        if pod is None or self._reported_gone(pod.namespace, pod.name) is not None:
            return None
        return pod

    def launcher(self, namespace: str, name: str) -> PodState | None:
        """Always None: launchers are not recorded."""
        return None

    def reporter(self, address: str) -> PodState | None:
        """Always None: the status of a Pod is not recorded."""
        return None

    def node(self, name: str) -> NodeState | MissingOwner:
        """Always unknown."""
        why = f"standalone mode does not know the state of node {name}"
        return MissingOwner(certain=False, why=why)


def _deletions_about(
    ledger: Ledger, deletions: Mapping[RecordKey, Deletion]
) -> Iterable[tuple[RecordKey, Deletion]]:
    """The deletions of records of the ledger's objects, unless the record was defined again.

    The cost is linear in the smaller argument.
    """
    if len(deletions) <= len(ledger.claims) + len(ledger.endpoints):
        subjects: Iterable[RecordKey] = deletions
    else:
        pods = {(POD, *key) for key in ledger.endpoints}
        pods |= {
            (POD, revised_claim.claim.namespace, revised_claim.claim.pod)
            for revised_claim in ledger.claims.values()
        }
        subjects = pods | {(NODE, "", endpoint.node) for endpoint in ledger.endpoints.values()}
        subjects |= {
            (STATEFUL_SET, namespace, replica.stateful_set)
            for _, namespace, name in pods
            if (replica := replica_of(name)) is not None
        }
    for key in subjects:
        if key in deletions and key not in ledger.records:
            yield key, deletions[key]


def _newest_claims(ledger: Ledger) -> dict[tuple[str, str], int]:
    newest: dict[tuple[str, str], int] = {}
    for revised_claim in ledger.claims.values():
        key = revised_claim.claim.namespace, revised_claim.claim.pod
        newest[key] = max(newest.get(key, 0), revised_claim.revision)
    return newest


def _recorded_pods(ledger: Ledger, deleted: Mapping[RecordKey, Deletion]) -> dict[str, PodState]:
    """The recorded Pods of the ledger's endpoints, by UID."""
    pods: dict[str, PodState] = {}
    for kind, namespace, name in ledger.records:
        endpoint = ledger.endpoints.get((namespace, name)) if kind == POD else None
        if endpoint is not None and (NODE, "", endpoint.node) not in deleted:
            pods[endpoint.uid] = PodState(namespace, name, endpoint.uid, node=endpoint.node)
    return pods


class EndpointsByNode(NamedTuple):
    """All endpoints at ``revision``, by node name."""

    revision: int
    endpoints: Mapping[str, Sequence[KeyValue]]


NOTHING_READ: Final = EndpointsByNode(revision=0, endpoints={})


class StandaloneReclaimFactsSource:
    """The ``ReclaimFactsSource`` of standalone mode."""

    def __init__(self, store: KeyValueStore, keys: Keys) -> None:
        self._store = store
        self._keys = keys
        self._reader = LogReader(store, keys)
        self._deletions = Deletions(store, keys)

    async def deleted_nodes(self, nodes: Collection[str]) -> frozenset[str]:
        """Always empty: standalone mode releases no GUIDs."""
        return frozenset()

    async def facts(
        self, ledger: Ledger, claims_read: Moment, notice: DeletionNotice = NO_NOTICE
    ) -> ClusterLookup:
        """See ``ReclaimFactsSource``. ``notice``: an operator's report.

        Raises StoreUnavailable, LogCorrupt.
        """
        await self._deletions.catch_up()
        return RecordLookup(ledger, self._deletions.deleted, claims_read, notice)

    async def changes(self) -> AsyncIterator[PodChange]:
        """See ``ReclaimFactsSource``. Raises StoreUnavailable, LogCorrupt, LogGap, Compacted."""
        by_node = NOTHING_READ
        async for segments, _ in self._reader.follow(await self._reader.cursor_now()):
            if not segments:
                by_node = NOTHING_READ  # all deletions were handled: free the memory
            for recorded in events_of_record_segments(segments):
                event = recorded.event
                if not isinstance(event, RecordDeleted):
                    continue
                endpoints: Sequence[KeyValue] = ()
                if event.kind == POD:
                    endpoints = await self._endpoint_of(event)
                elif event.kind == NODE:
                    if by_node.revision < recorded.position:
                        by_node = await self._by_node()
                    endpoints = by_node.endpoints.get(event.name, ())
                for change in self._deleted_pods(recorded, event, endpoints):
                    yield change

    def _deleted_pods(
        self, recorded: Recorded, event: RecordDeleted, endpoints: Iterable[KeyValue]
    ) -> Iterator[PodChange]:
        """A change for each Pod of a deleted record. Newer endpoints belong to newer Pods."""
        report = deletion_of(recorded).text((event.kind, event.namespace, event.name))
        older = (kv for kv in endpoints if kv.mod_revision < recorded.position)
        for endpoint in self._decodable(older):
            pod = PodState(endpoint.namespace, endpoint.name, endpoint.uid, node=endpoint.node)
            yield PodChange(pod, report, recorded.event_id, recorded.cause.traceparent)

    async def _endpoint_of(self, event: RecordDeleted) -> tuple[KeyValue, ...]:
        get = Get(self._keys.endpoint(event.namespace, event.name))
        return (await self._store.read([get])).ranges[0].kvs

    async def _by_node(self) -> EndpointsByNode:
        result = await self._store.read([Get(*self._keys.range_of("endpoint"))])
        by_node: dict[str, list[KeyValue]] = {}
        for kv in result.ranges[0].kvs:
            for endpoint in self._decodable([kv]):
                by_node.setdefault(endpoint.node, []).append(kv)
        return EndpointsByNode(result.revision, by_node)

    def _decodable(self, kvs: Iterable[KeyValue]) -> Iterator[Endpoint]:
        for kv in kvs:
            try:
                yield ENDPOINT_KEYS.decode(self._keys, kv.key, kv.value)
            except LogCorrupt as error:
                _log.error("an endpoint is not reclaimed, because it cannot be read: %s", error)

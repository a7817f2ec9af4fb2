"""Where a look gets its knowledge of Pods: one small interface, and the answer without Kubernetes.

Standalone, records take the place of API objects. A Pod whose record an operator has deleted is
gone, unless a record or a claim of that name is newer than the deletion. A Pod without a record was
never promised to have one: nobody can tell (I6). Deletions are read from the live log; one that has
gone to the archive before a look saw it frees nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple, Protocol

from core.domain.events import RecordDefined, RecordDeleted, Recorded
from core.domain.evolution import EndpointKey, Ledger
from core.domain.fixed.owners import Missing
from core.domain.reclaim.cluster import ClusterFacts, PodState
from core.domain.reclaim.evidence import utc
from core.domain.reclaim.standalone import StandaloneCluster, Word
from core.errors import LogGap
from core.store.keys import Keys
from core.store.kv import KeyValueStore
from core.store.log import Cursor, LogReader, Segment

DELETIONS_MAX: Final = 100_000
"""Deleted records that are remembered; the oldest are forgotten first."""

POD: Final = "Pod"
_MARK: Final = b"record-"
"""In the bytes of every segment that holds an event about a record."""

_NOBODY: Final = Word("", "")


class FactsSource(Protocol):
    """Whoever knows the cluster."""

    async def facts(self, ledger: Ledger, claims_read_s: float) -> ClusterFacts:
        """What is so now, asked after the ledger was read at ``claims_read_s`` (Unix seconds)."""
        ...


class Deletion(NamedTuple):
    """A Pod's record was deleted: when in the log, by whom, and when by the clock."""

    position: int
    actor: str
    at_s: float


class RecordFacts(StandaloneCluster):
    """Facts of standalone mode. ``claimed``: the newest revision of a claim, by Pod."""

    __slots__ = ("_claimed", "_deletions")

    def __init__(
        self,
        ledger: Ledger,
        deletions: Mapping[EndpointKey, Deletion],
        seen_s: float,
    ) -> None:
        super().__init__(ledger.endpoints, _NOBODY, seen_s)
        self._deletions = {
            key: one for key, one in deletions.items() if (POD, *key) not in ledger.records
        }
        self._claimed = _newest_claims(ledger) if self._deletions else {}

    def pod(self, namespace: str, name: str) -> PodState | Missing:
        """Gone if its record was deleted and nothing of that name came after, else unknown."""
        key = namespace, name
        found = self._deletions.get(key)
        if found is None:
            return super().pod(namespace, name)
        if self._claimed.get(key, 0) > found.position:
            why = f"Pod {namespace}/{name} got an address after its record was deleted"
            return Missing(certain=False, why=why)
        why = f"{found.actor} deleted the record of Pod {namespace}/{name}, {utc(found.at_s)}"
        return Missing(certain=True, why=why)


def _newest_claims(ledger: Ledger) -> dict[EndpointKey, int]:
    newest: dict[EndpointKey, int] = {}
    for held in ledger.claims.values():
        key = held.claim.namespace, held.claim.pod
        newest[key] = max(newest.get(key, 0), held.revision)
    return newest


class StandaloneFacts:
    """Follows the log for deleted records; what it has read it does not read again."""

    def __init__(self, store: KeyValueStore, keys: Keys) -> None:
        self._reader = LogReader(store, keys)
        self._cursor: Cursor | None = None
        self._deletions: dict[EndpointKey, Deletion] = {}

    async def facts(self, ledger: Ledger, claims_read_s: float) -> ClusterFacts:
        """See ``FactsSource``. Raises StoreUnavailable, LogCorrupt."""
        segments, self._cursor = await self._news()
        for segment in segments:
            if _MARK in segment.data:
                for event in segment.events():
                    self._take(event)
        return RecordFacts(ledger, dict(self._deletions), claims_read_s)

    async def _news(self) -> tuple[list[Segment], Cursor]:
        if self._cursor is not None:
            try:
                return await self._reader.catch_up(self._cursor)
            except LogGap:
                # Part of the log was sealed unread: begin anew with what is left of it.
                self._deletions.clear()
        return await self._reader.live()

    def _take(self, one: Recorded) -> None:
        match one.event:
            case RecordDefined(kind=kind, namespace=namespace, name=name) if kind == POD:
                self._deletions.pop((namespace, name), None)
            case RecordDeleted(kind, namespace, name) if kind == POD:
                key = namespace, name
                self._deletions.pop(key, None)
                at_s = one.recorded_at_ms / 1000
                self._deletions[key] = Deletion(one.position, one.cause.actor, at_s)
                if len(self._deletions) > DELETIONS_MAX:
                    del self._deletions[next(iter(self._deletions))]

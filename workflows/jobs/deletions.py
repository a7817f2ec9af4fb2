"""Deleted records: what an operator took back, read from the live log and remembered.

Standalone, a deletion that was written down is what proves that something is gone; that there is no
record proves nothing. A deletion that has gone to the archive before it was read here is unknown.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Final, NamedTuple

from core.domain.events import RecordDefined, RecordDeleted, Recorded
from core.domain.evolution import RecordKey
from core.domain.reclaim.evidence import utc
from core.errors import LogCorrupt, LogGap
from core.eventstore.keys import Keys
from core.eventstore.kv import KeyValueStore
from core.eventstore.log import Cursor, LogReader
from core.eventstore.segments import Segment

DELETIONS_MAX: Final = 100_000
"""Deleted records that are remembered; the oldest are forgotten first."""

_log: Final = logging.getLogger(__name__)

_MARK: Final = b"record-"
"""In the bytes of every segment that holds an event about a record."""


class Deletion(NamedTuple):
    """A record was deleted: when in the log, by whom, and when by the clock."""

    position: int
    actor: str
    at_s: float

    def words(self, key: RecordKey) -> str:
        """What has happened."""
        kind, namespace, name = key
        subject = f"{namespace}/{name}" if namespace else name
        return f"{self.actor} deleted the record of {kind} {subject}, {utc(self.at_s)}"


class Deletions:
    """Follows the log; what it has read it does not read again. ``found``: not recorded anew."""

    def __init__(self, store: KeyValueStore, keys: Keys) -> None:
        self.found: dict[RecordKey, Deletion] = {}
        self._reader = LogReader(store, keys)
        self._cursor: Cursor | None = None

    async def catch_up(self) -> None:
        """Read what is new. Raises StoreUnavailable.

        Behind a segment that cannot be read nothing is known of what was deleted before it: it may
        record a Pod anew. Forgetting frees nothing (I6).
        """
        segments, self._cursor = await self._news()
        for segment in segments:
            try:
                for event in about_records([segment]):
                    self._take(event)
            except LogCorrupt as error:
                self.found.clear()
                _log.error("deletions before it are forgotten: %s", error)

    async def _news(self) -> tuple[list[Segment], Cursor]:
        if self._cursor is not None:
            try:
                return await self._reader.catch_up(self._cursor)
            except LogGap:
                # Part of the log was sealed unread: begin anew with what is left of it.
                self.found.clear()
        return await self._reader.live()

    def _take(self, one: Recorded) -> None:
        match one.event:
            case RecordDefined(kind=kind, namespace=namespace, name=name):
                self.found.pop((kind, namespace, name), None)
            case RecordDeleted(kind, namespace, name):
                key = kind, namespace, name
                self.found.pop(key, None)
                self.found[key] = deletion_of(one)
                if len(self.found) > DELETIONS_MAX:
                    del self.found[next(iter(self.found))]


def about_records(segments: Iterable[Segment]) -> Iterable[Recorded]:
    """The events of segments that hold one about a record."""
    for segment in segments:
        if _MARK in segment.data:
            yield from segment.events()


def deletion_of(one: Recorded) -> Deletion:
    """A recorded deletion as it is remembered."""
    return Deletion(one.position, one.cause.actor, one.recorded_at_ms / 1000)

"""Deleted records, read from the live log and kept in memory.

Standalone, only a recorded deletion proves that an object is gone; a missing record proves nothing.
A deletion that was archived before it was read here is unknown.
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
from core.eventstore.log import Cursor, LogReader, Segment

DELETIONS_MAX: Final = 100_000
"""Deleted records that are kept; the oldest are dropped first."""

_log: Final = logging.getLogger(__name__)

_MARK: Final = b"record-"
"""Bytes that every segment with an event about a record contains."""


class Deletion(NamedTuple):
    """The deletion of a record: its position in the log, its actor, its time in Unix seconds."""

    position: int
    actor: str
    at_s: float

    def text(self, key: RecordKey) -> str:
        """The deletion as a text."""
        kind, namespace, name = key
        subject = f"{namespace}/{name}" if namespace else name
        return f"{self.actor} deleted the record of {kind} {subject}, {utc(self.at_s)}"


class Deletions:
    """Follows the log. ``deleted``: deleted records that were not defined again."""

    def __init__(self, store: KeyValueStore, keys: Keys) -> None:
        self.deleted: dict[RecordKey, Deletion] = {}
        self._reader = LogReader(store, keys)
        self._cursor: Cursor | None = None

    async def catch_up(self) -> None:
        """Read new segments. Raises StoreUnavailable.

        A segment that cannot be read may define a deleted record again, so all deletions before it
        are dropped. Dropping them frees no address (I6).
        """
        segments, self._cursor = await self._new_segments()
        for segment in segments:
            try:
                for event in about_records([segment]):
                    self._take(event)
            except LogCorrupt as error:
                self.deleted.clear()
                _log.error("all deletions before an unreadable segment are dropped: %s", error)

    async def _new_segments(self) -> tuple[list[Segment], Cursor]:
        if self._cursor is not None:
            try:
                return await self._reader.catch_up(self._cursor)
            except LogGap:
                # Part of the log was archived unread: start again with the live log.
                self.deleted.clear()
        return await self._reader.live()

    def _take(self, recorded: Recorded) -> None:
        match recorded.event:
            case RecordDefined(kind=kind, namespace=namespace, name=name):
                self.deleted.pop((kind, namespace, name), None)
            case RecordDeleted(kind, namespace, name):
                key = kind, namespace, name
                self.deleted.pop(key, None)
                self.deleted[key] = deletion_of(recorded)
                if len(self.deleted) > DELETIONS_MAX:
                    del self.deleted[next(iter(self.deleted))]


def about_records(segments: Iterable[Segment]) -> Iterable[Recorded]:
    """The events of segments that hold one about a record."""
    for segment in segments:
        if _MARK in segment.data:
            yield from segment.events()


def deletion_of(recorded: Recorded) -> Deletion:
    """The deletion that an event records."""
    return Deletion(recorded.position, recorded.cause.actor, recorded.recorded_at_ms / 1000)

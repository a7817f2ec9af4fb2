"""Reading the log: catch up from a cursor, then watch, with every writer's sequence checked.

The order of events is that of etcd revisions, then of their places in the segment: the same for
every reader. A missing segment raises LogGap (read again from the state keys or from the archive).
This module never writes and never watches from far behind.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import NamedTuple

from core.eventstore.codec import WriterHead
from core.eventstore.faults import Faults
from core.eventstore.heads import read_heads
from core.eventstore.keys import Keys
from core.eventstore.kv import Get, KeyValueStore
from core.eventstore.live_log import LiveLog, first_live
from core.eventstore.segments import READ_AGAIN, Segment, advance, segments_in


class Cursor(NamedTuple):
    """How far a reader has read: up to ``position``, per writer up to ``seq``."""

    position: int
    seqs: dict[str, int]


START = Cursor(0, {})


class LogReader:
    """Reads segments in order."""

    def __init__(self, store: KeyValueStore, keys: Keys, faults: Faults | None = None) -> None:
        self._store = store
        self._keys = keys
        self._faults = Faults() if faults is None else faults

    async def heads(self, *, revision: int = 0) -> tuple[int, dict[str, WriterHead]]:
        """Every writer's head, and the revision at which they were read."""
        result = await self._store.read([Get(*self._keys.range_of("head"))], revision=revision)
        kvs = result.ranges[0].kvs
        heads = await read_heads(self._store, self._keys, kvs, result.revision, self._faults)
        return result.revision, heads

    async def cursor_now(self) -> Cursor:
        """The cursor behind every segment that is committed now."""
        revision, heads = await self.heads()
        return Cursor(revision, {writer: head.seq for writer, head in heads.items()})

    async def catch_up(self, cursor: Cursor) -> tuple[list[Segment], Cursor]:
        """Every live segment after the cursor, in log order, up to one revision.

        Raises LogGap when segments after the cursor have left etcd for the archive.
        """
        now = await self.cursor_now()
        live = LiveLog(
            self._store, self._keys, now.position, now.seqs, cursor.seqs, self._faults, READ_AGAIN
        )
        segments = [segment async for batch in live.segments() for segment in batch]
        return segments, Cursor(now.position, {**cursor.seqs, **now.seqs})

    async def live(self) -> tuple[list[Segment], Cursor]:
        """Every segment that is still in etcd, wherever the archive ends; gaps are allowed."""
        now = await self.cursor_now()
        sealed = await first_live(self._store, self._keys, now.seqs, now.position)
        live = LiveLog(self._store, self._keys, now.position, now.seqs, sealed, self._faults, None)
        return [segment async for batch in live.segments() for segment in batch], now

    async def follow(self, cursor: Cursor) -> AsyncIterator[tuple[list[Segment], Cursor]]:
        """New segments as they are committed, after the cursor; an empty list is progress only.

        Raises LogGap and Compacted: then catch up again.
        """
        seqs = dict(cursor.seqs)
        async for batch in self._store.watch([self._keys.range_of("log")], after=cursor.position):
            segments = list(segments_in(self._keys, batch.changes, self._faults))
            for segment in segments:
                advance(seqs, segment)
            yield segments, Cursor(batch.revision, dict(seqs))

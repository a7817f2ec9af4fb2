"""Reading the log: catch up by key bounds, then watch, with every writer's sequence checked.

The order of events is that of etcd revisions, then of places in the segment; it is total and the
same for every reader. Sequence numbers prove that nothing is missing: a gap raises LogGap (read
again from the state keys or from the archive). This module never writes, never watches from far
behind, and never pages an open prefix.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator
from typing import NamedTuple

from core.domain.events import Recorded
from core.errors import LogCorrupt, LogGap
from core.eventstore.codec import UPGRADE, WriterHead, decode_segment
from core.eventstore.faults import Faults
from core.eventstore.heads import read_heads
from core.eventstore.keys import Keys
from core.eventstore.kinds import key_text
from core.eventstore.kv import Get, KeyChange, KeyValueStore

SEGMENTS_PER_READ_MAX = 2_000
"""Segments of one writer read at a time: some 60 MB at the very most, 1 MB as a rule."""


class Segment(NamedTuple):
    """A segment as it lies in the log; ``data`` undecoded."""

    position: int
    writer: str
    seq: int
    data: bytes

    def events(self) -> list[Recorded]:
        """Its events in order; raises LogCorrupt."""
        return decode_segment(self.data, writer=self.writer, position=self.position)


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
        """Every writer's head, and the revision at which that is so."""
        result = await self._store.read([Get(*self._keys.room("head"))], revision=revision)
        found = result.ranges[0].kvs
        heads = await read_heads(self._store, self._keys, found, result.revision, self._faults)
        return result.revision, heads

    async def cursor_now(self) -> Cursor:
        """The cursor of a reader that has seen everything there is."""
        revision, heads = await self.heads()
        return Cursor(revision, {writer: head.seq for writer, head in heads.items()})

    async def catch_up(self, cursor: Cursor) -> tuple[list[Segment], Cursor]:
        """Every live segment after the cursor, in log order, up to one revision.

        Raises LogGap when segments that the cursor has not seen have left etcd for the archive.
        """
        revision, heads = await self.heads()
        segments: list[Segment] = []
        for writer, head in heads.items():
            seen = cursor.seqs.get(writer, 0)
            segments += await self._read_writer(writer, seen, head.seq, revision)
        segments.sort()
        seqs = dict(cursor.seqs)
        for segment in segments:
            seqs[segment.writer] = _follow(seqs, segment)
        for writer, head in heads.items():
            if seqs.get(writer, 0) != head.seq:
                raise _gap(writer, seqs.get(writer, 0) + 1, head.seq)
        return segments, Cursor(revision, seqs)

    async def live(self) -> tuple[list[Segment], Cursor]:
        """Every segment still in etcd, wherever the archive ends."""
        revision, heads = await self.heads()
        segments: list[Segment] = []
        for writer, head in heads.items():
            segments += await self._read_writer(writer, 0, head.seq, revision)
        segments.sort()
        return segments, Cursor(revision, {writer: head.seq for writer, head in heads.items()})

    async def follow(self, cursor: Cursor) -> AsyncIterator[tuple[list[Segment], Cursor]]:
        """New segments as they are committed, after the cursor; an empty list is progress only.

        Raises LogGap and Compacted: then catch up again.
        """
        room = self._keys.room("log")
        seqs = dict(cursor.seqs)
        async for batch in self._store.watch([room], after=cursor.position):
            segments = list(self._of_changes(batch.changes))
            for segment in segments:
                seqs[segment.writer] = _follow(seqs, segment)
            yield segments, Cursor(batch.revision, dict(seqs))

    async def _read_writer(
        self, writer: str, after: int, last: int, revision: int
    ) -> list[Segment]:
        segments: list[Segment] = []
        for first in range(after + 1, last + 1, SEGMENTS_PER_READ_MAX):
            bound = min(first + SEGMENTS_PER_READ_MAX, last + 1)
            get = Get(self._keys.log(writer, first), self._keys.log(writer, bound))
            result = await self._store.read([get], revision=revision)
            changes = (KeyChange(kv.key, kv.value, kv.mod_revision) for kv in result.ranges[0].kvs)
            segments += self._of_changes(changes)
        return segments

    def _of_changes(self, changes: Iterable[KeyChange]) -> Iterator[Segment]:
        """The segments that these changes wrote; a key that names no segment is left out."""
        for key, value, revision in changes:
            if not value:
                continue
            try:
                writer, seq = self._keys.check_segment(key)
            except ValueError as error:
                name = key_text(self._keys, key)
                why = LogCorrupt(f"log key {name}: {error}", subject=name, remedy=UPGRADE)
                self._faults.report("segment", name, why)
                continue
            yield Segment(revision, writer, seq, value)


def _follow(seqs: dict[str, int], segment: Segment) -> int:
    expected = seqs.get(segment.writer, 0) + 1
    if segment.seq != expected:
        raise _gap(segment.writer, expected, segment.seq)
    return segment.seq


def _gap(writer: str, expected: int, found: int) -> LogGap:
    return missing_segment(
        writer, expected, found, "read the state keys or the archive, then go on from there"
    )


def missing_segment(writer: str, expected: int, known: int, remedy: str) -> LogGap:
    """The error about a hole in a writer's numbers; ``known``: what shows that there is one."""
    shown = f"{known} is known" if known != expected else "its head counts it"
    return LogGap(
        f"segment {expected} of writer {writer} is not there, though {shown}",
        subject=writer,
        remedy=remedy,
    )

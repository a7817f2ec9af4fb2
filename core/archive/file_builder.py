"""Builds one archive file, its index and its snapshot from segments, in bounded memory.

Every segment is applied to the ledger (the state that the log gives): only readable segments are
sealed, and the final ledger is the snapshot.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import NamedTuple

from core.archive.cursor import (
    INDEX_SUFFIX,
    SEGMENTS_SUFFIX,
    SNAPSHOT_SUFFIX,
    ArchiveCursor,
    new_base,
)
from core.archive.file_format import FORMAT_VERSION, BlockWriter, FileHeader, FileLink, assemble
from core.archive.file_index import IndexBuilder
from core.archive.replay import advance_clock
from core.archive.snapshot import ArchiveSnapshot, encode_snapshot
from core.errors import LogCorrupt, LogGap
from core.eventstore.codec import DECODING_ERRORS, SEGMENT_REMEDY, error_text
from core.eventstore.log_reader import Segment


class BuiltFile(NamedTuple):
    """A file that is ready: write ``parts`` (name and chunks) in order, then commit ``cursor``.

    ``ranges``: writer -> the numbers of its first and its last segment in the file.
    """

    parts: tuple[tuple[str, list[bytes]], ...]
    cursor: ArchiveCursor
    ranges: dict[str, tuple[int, int]]
    segments: int
    events: int


class FileBuilder:
    """Collects segments until the file is full."""

    def __init__(
        self, cluster: str, cursor: ArchiveCursor, before: ArchiveSnapshot, bytes_max: int
    ) -> None:
        """``cursor``: the archive's end. ``before``: the state there; ``take`` changes it."""
        assert before.ledger.position == cursor.position, (before.ledger.position, cursor.position)
        self._cluster = cluster
        self._cursor = cursor
        self._ledger = before.ledger
        self._bytes_max = bytes_max
        self._blocks = BlockWriter(cursor.chain)
        self._index = IndexBuilder()
        self._ranges: dict[str, tuple[int, int]] = {}
        self._seqs = dict(cursor.seqs)
        self._clock_ms = cursor.clock_ms
        self._segments = 0
        self._events = 0
        self._first_position = 0
        self._is_ledger_broken = False

    @property
    def is_full(self) -> bool:
        """Whether the next segment belongs in the next file."""
        return self._blocks.raw_bytes >= self._bytes_max

    def take(self, segments: Sequence[Segment], read_at_ms: int) -> Sequence[Segment]:
        """Add segments in log order; return the segments that do not fit into the file.

        ``read_at_ms``: when the segments were read. Raises LogGap: do not call ``finish``. Raises
        LogCorrupt for an unreadable segment: if ``is_usable``, ``finish`` gives the earlier ones.
        """
        for count, segment in enumerate(segments):
            if self.is_full:
                return segments[count:]
            self._add(segment, read_at_ms)
        return ()

    @property
    def is_usable(self) -> bool:
        """Whether the file has segments, and no unreadable segment has changed the state."""
        return bool(self._segments) and not self._is_ledger_broken

    def finish(self, sealed_at_ms: int) -> BuiltFile:
        """The three files and the cursor. At least one segment must have been added."""
        assert self._segments, "an archive file needs at least one segment"
        self._blocks.close_block()
        chain, position = self._blocks.chain, self._ledger.position
        snapshot = encode_snapshot(ArchiveSnapshot(self._ledger, self._seqs, chain, self._clock_ms))
        index = self._index.finish()
        digest, chunks = assemble(
            self._header(sealed_at_ms),
            self._blocks,
            sha256(index).digest(),
            sha256(snapshot).digest(),
        )
        number = self._cursor.files + 1
        base = new_base(self._cluster, number, position)
        link, pruned = FileLink(base, digest), self._cursor.pruned
        cursor = ArchiveCursor(number, link, position, chain, self._clock_ms, self._seqs, pruned)
        parts = (
            (base + INDEX_SUFFIX, [index]),
            (base + SNAPSHOT_SUFFIX, [snapshot]),
            (base + SEGMENTS_SUFFIX, chunks),
        )
        return BuiltFile(parts, cursor, self._ranges, self._segments, self._events)

    def _header(self, sealed_at_ms: int) -> FileHeader:
        return FileHeader(
            version=FORMAT_VERSION,
            cluster=self._cluster,
            number=self._cursor.files + 1,
            previous=self._cursor.last,
            first_position=self._first_position,
            last_position=self._ledger.position,
            segments=self._segments,
            events=self._events,
            ranges=self._ranges,
            chain_start=self._cursor.chain,
            clock_ms=self._clock_ms,
            sealed_at_ms=sealed_at_ms,
        )

    def _add(self, segment: Segment, read_at_ms: int) -> None:
        writer, seq = segment.writer, segment.seq
        expected = self._seqs.get(writer, 0) + 1
        position, last = segment.position, self._ledger.position
        problem = ""
        if seq != expected:
            problem = f"expected segment {expected}, got {seq} at position {position}"
        elif position <= last:
            problem = f"segment {seq} is at position {position}, not after {last}"
        if problem:
            raise LogGap(
                f"writer {writer}: {problem}; sealing stopped, and the archive is complete up to"
                f" position {self._cursor.position}",
                subject=writer,
                remedy="run `orbctl verify`, and restore the part that it reports as damaged (etcd"
                " or the archive) from a backup",
            )
        events = segment.events()
        block = self._blocks.next_block_number
        try:
            for recorded in events:
                self._clock_ms = advance_clock(self._clock_ms, recorded, read_at_ms)
                self._ledger.apply(recorded)
                self._index.add(block, recorded.event)
        except DECODING_ERRORS as error:
            self._is_ledger_broken = True
            what = f"segment {seq} of {writer} cannot be applied to the state: {error_text(error)}"
            raise LogCorrupt(what, subject=writer, remedy=SEGMENT_REMEDY) from error
        self._blocks.add(segment)
        first = self._ranges.get(writer, (seq, seq))[0]
        self._ranges[writer] = (first, seq)
        self._seqs[writer] = seq
        self._first_position = self._first_position or segment.position
        self._segments += 1
        self._events += len(events)

"""Reads the sealed part of a log: its files, snapshots and indexes.

The cursor has the name and digest of the last file; each file has those of the file before it. Any
mismatch raises LogCorrupt. Files outside this chain are not read.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from hashlib import sha256
from typing import NamedTuple

from core.archive.archive_directory import Files
from core.archive.cursor import (
    INDEX_SUFFIX,
    SEGMENTS_SUFFIX,
    SNAPSHOT_SUFFIX,
    ArchiveCursor,
)
from core.archive.file_format import FileLink, SealedFile
from core.archive.file_index import INDEX_MAGIC, find_blocks
from core.archive.snapshot import ArchiveSnapshot, decode_snapshot, empty_snapshot
from core.archive.unread_parts import UnreadPartList
from core.errors import LogCorrupt
from core.eventstore.log_reader import Segment


class FileSummary(NamedTuple):
    """One file of the chain. Times are Unix milliseconds."""

    link: FileLink
    number: int
    first_position: int
    last_position: int
    segments: int
    events: int
    clock_ms: int
    sealed_at_ms: int


class SealedLog:
    """The archive files up to one cursor.

    ``unread``: receives unreadable blocks, which are skipped; None: they raise LogCorrupt.
    """

    def __init__(
        self, files: Files, cursor: ArchiveCursor, unread: UnreadPartList | None = None
    ) -> None:
        self._files = files
        self.cursor = cursor
        self.unread = unread
        self._summaries: list[FileSummary] | None = None

    def summaries(self) -> list[FileSummary]:
        """Every file, oldest first. Raises LogCorrupt."""
        if self._summaries is None:
            summaries = [_summary(file) for file in self._files_backwards()]
            self._summaries = summaries[::-1]
        return self._summaries

    def open(self, link: FileLink) -> SealedFile:
        """A file of the chain. Raises LogCorrupt."""
        return SealedFile(self._files.view(link.base + SEGMENTS_SUFFIX), link)

    def first_state(self) -> ArchiveSnapshot:
        """The state before the first remaining segment. Raises LogCorrupt if the state is lost."""
        pruned = self.cursor.pruned
        if not pruned.files:
            return empty_snapshot()
        name = pruned.last.base + SNAPSHOT_SUFFIX
        data = self._files.view(name)
        if sha256(data).digest() != pruned.snapshot_digest:
            raise LogCorrupt(
                f"snapshot {name}, where the remaining archive begins, was changed",
                subject=name,
                remedy="restore it from a copy of the archive",
            )
        return decode_snapshot(data, name=name)

    def bytes_of(self, link: FileLink) -> int:
        """The size on disk of a file with its index and snapshot. Raises LogCorrupt."""
        size = len(self._files.view(link.base + SEGMENTS_SUFFIX))
        for suffix in (INDEX_SUFFIX, SNAPSHOT_SUFFIX):
            with suppress(LogCorrupt):  # ``orbctl verify`` reports a lost index or snapshot
                size += len(self._files.view(link.base + suffix))
        return size

    def index(self, link: FileLink) -> memoryview | None:
        """A file's index; None if the index is lost or has an unknown format."""
        try:
            index = self._files.view(link.base + INDEX_SUFFIX)
        except LogCorrupt:
            return None
        return index if bytes(index[: len(INDEX_MAGIC)]) == INDEX_MAGIC else None

    def snapshot(self, link: FileLink) -> ArchiveSnapshot | None:
        """A file's snapshot; None if the snapshot is lost or was changed."""
        name = link.base + SNAPSHOT_SUFFIX
        try:
            data = self._files.view(name)
        except LogCorrupt:
            return None
        if sha256(data).digest() != self.open(link).trailer.snapshot_digest:
            return None
        return decode_snapshot(data, name=name)

    def last_state(self) -> ArchiveSnapshot:
        """The state at the end of the archive."""
        ledger = self.snapshot_up_to(self.cursor.position).ledger
        for _, segments in self.segments(ledger.position, self.cursor.position):
            for segment in segments:
                ledger.apply_all(segment.events())
        return ArchiveSnapshot(ledger, self.cursor.seqs, self.cursor.chain, self.cursor.clock_ms)

    def snapshot_up_to(self, position: int) -> ArchiveSnapshot:
        """The newest usable snapshot at or before ``position``, else ``first_state``."""
        return self._newest([file for file in self.summaries() if file.last_position <= position])

    def snapshot_at_time(self, time_ms: int) -> ArchiveSnapshot:
        """The newest usable snapshot with ``clock_ms`` up to ``time_ms``, else ``first_state``."""
        return self._newest([file for file in self.summaries() if file.clock_ms <= time_ms])

    def segments(self, after: int, upto: int) -> Iterator[tuple[FileSummary, list[Segment]]]:
        """The segments with positions in (after, upto], block by block, each block verified."""
        for summary in self.summaries():
            if summary.last_position <= after or summary.first_position > upto:
                continue
            file = self.open(summary.link)
            for number in file.blocks_between(after, upto):
                segments = self._segments(file, number)
                if segments and (segments[0].position <= after or segments[-1].position > upto):
                    segments = [segment for segment in segments if after < segment.position <= upto]
                yield summary, segments

    def segments_with_any(self, tokens: list[str]) -> Iterator[list[Segment]]:
        """The segments of blocks that may have events of one of the tokens, in log order."""
        for summary in self.summaries():
            file = self.open(summary.link)
            index = self.index(summary.link)
            blocks: set[int] = set(range(len(file.trailer.blocks)))
            if index is not None:
                blocks &= {block for token in tokens for block in find_blocks(index, token)}
            for number in sorted(blocks):
                yield self._segments(file, number)

    def _segments(self, file: SealedFile, number: int) -> list[Segment]:
        """The segments of a block; empty if the block is unreadable and ``unread`` is set."""
        try:
            return file.segments(number)
        except LogCorrupt as error:
            if self.unread is None:
                raise
            block = file.trailer.blocks[number]
            self.unread.note(block.first_position, block.last_position, error)
            return []

    def _newest(self, candidates: list[FileSummary]) -> ArchiveSnapshot:
        for summary in reversed(candidates):
            snapshot = self.snapshot(summary.link)
            if snapshot is not None:
                return snapshot
        return self.first_state()

    def _files_backwards(self) -> Iterator[SealedFile]:
        link, expected = self.cursor.last, self.cursor.files
        chain, pruned = self.cursor.chain, self.cursor.pruned
        while expected > pruned.files:
            file = self.open(link)
            if file.header.number != expected or file.chain_end != chain:
                raise LogCorrupt(
                    f"archive file {link.base} does not have the number and the hash that are in"
                    " the cursor or in the following file",
                    subject=link.base,
                    remedy="restore it and the following file from a copy of the archive",
                )
            yield file
            link, chain = file.header.previous, file.header.chain_start
            expected -= 1
        if chain != pruned.chain or link.base != pruned.last.base:
            raise LogCorrupt(
                "the oldest archive file does not begin where the pruned part of the archive ends"
                " (if nothing was pruned: at the start of the log)",
                subject="archive",
                remedy="restore the archive from a copy",
            )


def _summary(file: SealedFile) -> FileSummary:
    header = file.header
    return FileSummary(
        file.link,
        header.number,
        header.first_position,
        header.last_position,
        header.segments,
        header.events,
        header.clock_ms,
        header.sealed_at_ms,
    )

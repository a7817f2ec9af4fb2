"""Finds and deletes leftovers: files of interrupted or superseded archivers.

A leftover with segments is deleted only if the archive certainly has these segments, or has pruned
them. The archive has them if the leftover's last hash is the archive's hash at the same position.
Other leftovers with segments are kept, such as files from before etcd was restored from a backup.
"""

from __future__ import annotations

from itertools import takewhile
from typing import NamedTuple

from core.archive.archive_directory import Files
from core.archive.cursor import SEGMENTS_SUFFIX, SNAPSHOT_SUFFIX, file_prefix, number_of
from core.archive.file_format import FileLink, SealedFile, chained
from core.archive.sealed_log import SealedLog
from core.errors import LogCorrupt


class LeftoverFiles(NamedTuple):
    """File names. ``redundant``: can be deleted. ``foreign``: files of a different log history."""

    redundant: tuple[str, ...]
    foreign: tuple[str, ...]


def find_leftovers(files: Files, sealed: SealedLog, cluster: str) -> LeftoverFiles:
    """Classify files that do not belong to the archive. Raises LogCorrupt."""
    prefix = file_prefix(cluster)
    chain_files = {summary.link.base for summary in sealed.summaries()}
    pruned_files = _pruned_files(files, sealed)
    # Keep the snapshot of the last pruned file: the archive now begins with this state.
    first_snapshot = sealed.cursor.pruned.last.base + SNAPSHOT_SUFFIX
    sealed_numbers = range(1, sealed.cursor.files + 1)
    leftovers: dict[str, list[str]] = {}
    for name in (*files.names(), *files.partials()):
        base = name.partition(".")[0]
        if name == first_snapshot or not name.startswith(prefix):
            continue
        # An archiver may still be writing a file with a number above the number in the cursor.
        if base not in chain_files and number_of(base) in sealed_numbers:
            leftovers.setdefault(base, []).append(name)
    redundant: list[str] = []
    foreign: list[str] = []
    for base, names in leftovers.items():
        has_segments = base + SEGMENTS_SUFFIX in names
        if not has_segments or base in pruned_files or _is_on_chain(files, sealed, base):
            redundant += names
        else:
            foreign += names
    return LeftoverFiles(tuple(redundant), tuple(foreign))


def remove_leftovers(files: Files, sealed: SealedLog, cluster: str) -> None:
    """Remove redundant files. Raises LogCorrupt, OSError.

    Oldest first: the pruned files that remain after an interruption still form a chain.
    """
    for name in find_leftovers(files, sealed, cluster).redundant:
        files.remove(name)


def _pruned_files(files: Files, sealed: SealedLog) -> set[str]:
    pruned_files: set[str] = set()
    link, number = sealed.cursor.pruned.last, sealed.cursor.pruned.files
    names = set(files.names())
    while number and link.base + SEGMENTS_SUFFIX in names:
        try:
            file = sealed.open(link)
        except LogCorrupt:
            break
        pruned_files.add(link.base)
        link, number = file.header.previous, number - 1
    return pruned_files


def _is_on_chain(files: Files, sealed: SealedLog, base: str) -> bool:
    try:
        no_digest = b""  # a leftover's digest is unknown
        file = SealedFile(files.view(base + SEGMENTS_SUFFIX), FileLink(base, no_digest))
        return chain_hash_at(sealed, file.header.last_position) == file.chain_end
    except LogCorrupt:
        return False


def chain_hash_at(sealed: SealedLog, position: int) -> bytes | None:
    """The hash after the last segment up to a position; None if no file has the position."""
    for summary in sealed.summaries():
        if summary.first_position <= position <= summary.last_position:
            file = sealed.open(summary.link)
            blocks = file.trailer.blocks
            number = max(
                index for index, block in enumerate(blocks) if block.first_position <= position
            )
            segments = takewhile(
                lambda segment: segment.position <= position, file.segments(number)
            )
            return chained(blocks[number].chain_before, segments)
    return None

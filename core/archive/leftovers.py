"""Leftovers: files of interrupted or superseded archivers, and which of them can be deleted.

A leftover is deleted only if the log certainly has all of its segments: the cursor has passed the
number in its name (a higher one may be a seal in progress), and a segments file is on this log's
chain, which has the file's last hash at the file's last position. Any other file is kept, such as
one from before etcd was restored from an older backup.
"""

from __future__ import annotations

from itertools import takewhile
from typing import NamedTuple

from core.archive.cursor import SEGMENTS_SUFFIX, SNAPSHOT_SUFFIX, file_prefix, number_of
from core.archive.files import Files
from core.archive.format import FileLink, SealedFile, chained
from core.archive.sealed_log import SealedLog
from core.errors import LogCorrupt


class LeftoverFiles(NamedTuple):
    """File names: ``worthless`` ones may go, ``foreign`` ones are not of this log's history."""

    worthless: tuple[str, ...]
    foreign: tuple[str, ...]


def find_leftovers(files: Files, sealed: SealedLog, cluster: str) -> LeftoverFiles:
    """Classify files that do not belong to the archive. Raises LogCorrupt."""
    prefix = file_prefix(cluster)
    chain_files = {summary.link.base for summary in sealed.summaries()}
    given_up = _given_up(files, sealed)
    pruned = sealed.cursor.pruned
    kept_name = pruned.last.base + SNAPSHOT_SUFFIX
    passed = range(1, sealed.cursor.files + 1)
    strays: dict[str, list[str]] = {}
    for name in (*files.names(), *files.partials()):
        base = name.partition(".")[0]
        if name == kept_name:
            continue
        if name.startswith(prefix) and base not in chain_files and number_of(base) in passed:
            strays.setdefault(base, []).append(name)
    worthless: list[str] = []
    foreign: list[str] = []
    for base, names in strays.items():
        is_known = base in given_up or base + SEGMENTS_SUFFIX not in names
        if not is_known and not _is_on_the_chain(files, sealed, base):
            foreign += names
        else:
            worthless += names
    return LeftoverFiles(tuple(worthless), tuple(foreign))


def sweep(files: Files, sealed: SealedLog, cluster: str) -> None:
    """Remove worthless files, the oldest first. Raises LogCorrupt, OSError.

    In this order a sweep that was interrupted leaves pruned files that still lead to each other.
    """
    for name in find_leftovers(files, sealed, cluster).worthless:
        files.remove(name)


def _given_up(files: Files, sealed: SealedLog) -> set[str]:
    """The pruned files that are still there, found from the last one backwards by their digests."""
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


def _is_on_the_chain(files: Files, sealed: SealedLog, base: str) -> bool:
    try:
        file = SealedFile(files.view(base + SEGMENTS_SUFFIX), FileLink(base, b""))
        return chain_at(sealed, file.header.last_position) == file.chain_end
    except LogCorrupt:
        return False


def chain_at(sealed: SealedLog, position: int) -> bytes | None:
    """The chain after the last segment up to a position; None where nothing is sealed any more."""
    for summary in sealed.summaries():
        if summary.first_position <= position <= summary.last_position:
            file = sealed.open(summary.link)
            number = max(
                n for n, b in enumerate(file.trailer.blocks) if b.first_position <= position
            )
            before = file.trailer.blocks[number].chain_before
            upto = takewhile(lambda one: one.position <= position, file.segments(number))
            return chained(before, upto)
    return None

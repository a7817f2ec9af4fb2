"""Leftovers: files that crashed or beaten archivers have left behind, and which of them may go.

A leftover may go when it certainly holds nothing of its own. The number in its name must be one
that the cursor has passed (a higher one may be a seal under way), and a segments file must lie on
this log's chain: the log passes through the file's last hash at the file's last position. Anything
else (a file from before etcd was set back to an older copy, say) is somebody's history and stays.
"""

from __future__ import annotations

from itertools import takewhile
from typing import NamedTuple

from core.archive.chain import chained
from core.archive.cursor import SEGMENTS_SUFFIX, SNAPSHOT_SUFFIX, file_prefix, number_of
from core.archive.files import Files
from core.archive.format import FileLink, SealedFile
from core.archive.sealed_log import SealedLog
from core.errors import LogCorrupt


class LeftoverFiles(NamedTuple):
    """File names: ``worthless`` ones may go, ``foreign`` ones are not of this log's history."""

    worthless: tuple[str, ...]
    foreign: tuple[str, ...]


def find_leftovers(files: Files, sealed: SealedLog, cluster: str) -> LeftoverFiles:
    """Sort out what lies beside the archive's own files. Raises LogCorrupt."""
    prefix = file_prefix(cluster)
    own = {summary.link.base for summary in sealed.summaries()}
    given_up = _given_up(files, sealed)
    pruned = sealed.cursor.pruned
    kept_name = pruned.last.base + SNAPSHOT_SUFFIX
    passed = range(1, sealed.cursor.files + 1)
    strays: dict[str, list[str]] = {}
    for name in (*files.names(), *files.partials()):
        base = name.partition(".")[0]
        if name == kept_name:
            continue
        if name.startswith(prefix) and base not in own and number_of(base) in passed:
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
    """Remove what is worthless, the oldest first. Raises LogCorrupt, OSError.

    In this order a sweep that was interrupted leaves pruned files that still lead to each other.
    """
    for name in find_leftovers(files, sealed, cluster).worthless:
        files.remove(name)


def _given_up(files: Files, sealed: SealedLog) -> set[str]:
    """The pruned files that are still there, found from the last one backwards by their digests."""
    found: set[str] = set()
    link, number = sealed.cursor.pruned.last, sealed.cursor.pruned.files
    names = set(files.names())
    while number and link.base + SEGMENTS_SUFFIX in names:
        try:
            file = sealed.open(link)
        except LogCorrupt:
            break
        found.add(link.base)
        link, number = file.header.previous, number - 1
    return found


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

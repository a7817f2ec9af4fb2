"""The long log that several measures read: nine tenths in archive files, a tenth in etcd.

The log is made once in a run. Each measure starts an etcd on a copy of the etcd data. All measures
read the same archive files.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, NamedTuple

from bench.rig.lab import Lab
from core.archive.archive_directory import LocalFiles
from core.archive.archiver import Archiver
from core.archive.replay import open_log
from core.eventstore.keys import Keys
from core.eventstore.kv import KeyValueStore
from tests.core.archive.synthetic import Shape, fill

PER_SEGMENT = 64
"""Events of one segment, as in a group commit of a busy writer."""

ARCHIVED_SHARE = 0.9
FULL_RUN_EVENTS: Final = 1_000_000
"""The number of events in a full run, for which the targets hold."""


class SeededLog(NamedTuple):
    """The data directory of the log's etcd, and its archive."""

    data: Path
    files: LocalFiles
    archive: Path


def long_log(lab: Lab) -> SeededLog:
    """Make a log of claims and releases, or return the log that an earlier measure made."""
    archive = lab.directory / "archive"
    files = LocalFiles(archive)

    async def write(store: KeyValueStore, keys: Keys) -> None:
        shape = Shape(lab.scale.events, per_segment=PER_SEGMENT, held=lab.scale.claims)
        await fill(store, keys, shape)
        newest = (await open_log(store, keys, files)).revision
        await Archiver(store, keys, files).seal(int(newest * ARCHIVED_SHARE))

    return SeededLog(lab.seed("log", write), files, archive)


def unit_ms(lab: Lab) -> str:
    """The unit "ms". In a quick run, the text also names the number of events."""
    events = lab.scale.events
    if events == FULL_RUN_EVENTS:
        return "ms"
    return f"ms, of {events:,} events instead of {FULL_RUN_EVENTS:,}"

"""The long log that several measures read: nine tenths in archive files, a tenth in etcd.

Each measure starts an etcd on a copy of the data. All measures read the same archive files.
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

EVENTS_PER_SEGMENT = 64

ARCHIVED_SHARE = 0.9
FULL_RUN_EVENTS: Final = 1_000_000
"""Events in a full run; the targets are for this number."""


class SeededLog(NamedTuple):
    """A log. ``data``: the data directory of its etcd. ``archive``: the directory of ``files``."""

    data: Path
    files: LocalFiles
    archive: Path


def long_log(lab: Lab) -> SeededLog:
    """Return the log; the first call creates it, from claims and releases."""
    archive = lab.directory / "archive"
    files = LocalFiles(archive)

    async def write(store: KeyValueStore, keys: Keys) -> None:
        shape = Shape(lab.scale.events, per_segment=EVENTS_PER_SEGMENT, held=lab.scale.claims)
        await fill(store, keys, shape)
        newest = (await open_log(store, keys, files)).revision
        await Archiver(store, keys, files).seal(int(newest * ARCHIVED_SHARE))

    return SeededLog(lab.seed("log", write), files, archive)


def unit_ms(lab: Lab) -> str:
    """Return the unit "ms"; in a quick run, the unit also says the number of events."""
    events = lab.scale.events
    if events == FULL_RUN_EVENTS:
        return "ms"
    return f"ms, of {events:,} events instead of {FULL_RUN_EVENTS:,}"

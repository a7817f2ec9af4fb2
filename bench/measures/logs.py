"""The long log of several measures: nine tenths in archive files, a tenth in etcd.

It is made once in a run. A measure starts an etcd on a copy of its data and shares the archive
files.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, NamedTuple

from bench.rig.lab import Lab
from core.archive.archiver import Archiver
from core.archive.files import LocalFiles
from core.archive.replay import open_log
from core.eventstore.keys import Keys
from core.eventstore.kv import KeyValueStore
from tests.core.archive.synthetic import Shape, fill

PER_SEGMENT = 64
"""Events of one segment, as in a group commit of a busy writer."""

ARCHIVED_SHARE = 0.9
PROMISED_EVENTS: Final = 1_000_000
"""The events of a full run, for which the targets hold."""


class SeededLog(NamedTuple):
    """The data directory of the log's etcd, and its archive."""

    data: Path
    files: LocalFiles
    archive: Path


def long_log(lab: Lab) -> SeededLog:
    """Make a log of claims and releases, with the events and claims of the scale."""
    archive = lab.directory / "archive"
    files = LocalFiles(archive)

    async def write(store: KeyValueStore, keys: Keys) -> None:
        await fill(store, keys, Shape(lab.scale.events, PER_SEGMENT, held=lab.scale.claims))
        newest = (await open_log(store, keys, files)).revision
        await Archiver(store, keys, files).seal(int(newest * ARCHIVED_SHARE))

    return SeededLog(lab.seed("log", write), files, archive)


def milliseconds(lab: Lab) -> str:
    """The unit "ms" of a time in a log; it names the number of events if it is not a million."""
    events = lab.scale.events
    return "ms" if events == PROMISED_EVENTS else f"ms, of {events:,} events instead of 1,000,000"

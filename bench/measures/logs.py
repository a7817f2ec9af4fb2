"""The log of the reading measures, as a long log lies: nine tenths in archive files, a tenth live.

It is made once a run; whoever reads it starts an etcd on a copy and shares the files.
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
"""Events of one segment: a busy writer's group commit."""

ARCHIVED_SHARE = 0.9
PROMISED_EVENTS: Final = 1_000_000


class SeededLog(NamedTuple):
    """The data directory of its etcd, and its archive with its directory."""

    data: Path
    files: LocalFiles
    archive: Path


def long_log(lab: Lab) -> SeededLog:
    """A log of claims and releases, with as many events and live claims as the scale says."""
    archive = lab.directory / "archive"
    files = LocalFiles(archive)

    async def write(store: KeyValueStore, keys: Keys) -> None:
        await fill(store, keys, Shape(lab.scale.events, PER_SEGMENT, held=lab.scale.claims))
        newest = (await open_log(store, keys, files)).revision
        await Archiver(store, keys, files).seal(int(newest * ARCHIVED_SHARE))

    return SeededLog(lab.seed("log", write), files, archive)


def milliseconds(lab: Lab) -> str:
    """The unit of a time in a log of a million events; it names the number if it is another."""
    events = lab.scale.events
    return "ms" if events == PROMISED_EVENTS else f"ms, of {events:,} events instead of 1,000,000"

"""The log of the reading measures, as a long log lies: nine tenths in archive files, a tenth live.

It is made once a run; whoever reads it starts an etcd on a copy and shares the files.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

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


class SeededLog(NamedTuple):
    """The data directory of its etcd, and its archive with its directory."""

    data: Path
    files: LocalFiles
    archive: Path


def long_log(lab: Lab) -> SeededLog:
    """A log of claims and releases with as many events as the scale says."""
    archive = lab.directory / "archive"
    files = LocalFiles(archive)

    async def write(store: KeyValueStore, keys: Keys) -> None:
        await fill(store, keys, Shape(lab.scale.events, PER_SEGMENT))
        newest = (await open_log(store, keys, files)).revision
        await Archiver(store, keys, files).seal(int(newest * ARCHIVED_SHARE))

    return SeededLog(lab.seed("log", write), files, archive)

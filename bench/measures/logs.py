"""The log of the reading measures: one seed, so that it is made once a run."""

from __future__ import annotations

from pathlib import Path

from bench.rig.lab import Lab
from core.store.keys import Keys
from core.store.kv import KeyValueStore
from tests.archive.synthetic import Shape, fill

PER_SEGMENT = 64
"""Events of one segment: a busy writer's group commit."""


def log_of(lab: Lab) -> Path:
    """A log of claims and releases, as long as the scale says."""

    async def write(store: KeyValueStore, keys: Keys) -> None:
        await fill(store, keys, Shape(lab.scale.events, PER_SEGMENT))

    return lab.seed("log", write)

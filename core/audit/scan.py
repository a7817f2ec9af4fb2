"""A scan: every key of every kind, read as a process would read it, and what cannot be read.

It tells what no reader may have met yet. One read for each kind, at one revision; memory holds one
kind at a time. It never writes.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from core.errors import LogCorrupt
from core.eventstore.faults import ContainedFault
from core.eventstore.keys import Keys
from core.eventstore.kinds import KeyKind, key_text
from core.eventstore.kv import Get, KeyValueStore


async def scan(
    store: KeyValueStore, keys: Keys, kinds: Iterable[KeyKind[Any]], revision: int = 0
) -> list[ContainedFault]:
    """What cannot be read, in the order of kinds and keys. Raises StoreUnavailable, Compacted."""
    faults: list[ContainedFault] = []
    for kind in kinds:
        result = await store.read([Get(*kind.range(keys))], revision=revision)
        for kv in result.ranges[0].kvs:
            try:
                kind.decode(keys, kv.key, kv.value)
            except LogCorrupt as error:
                name = key_text(keys, kv.key)
                faults.append(ContainedFault(kind.name, name, error.message, error.remedy))
    return faults

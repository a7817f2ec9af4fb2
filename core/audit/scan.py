"""A scan: decodes every key of every kind as its readers do, and returns the faults.

It also finds faults of keys that no process has read yet. One read for each kind, at one revision;
memory has one kind at a time. It never writes.
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
    """The keys that cannot be decoded, by kind and key. Raises StoreUnavailable, Compacted."""
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

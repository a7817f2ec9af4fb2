"""Rebuilds the index of pools or subnets, after a version without an index has written.

The guard key of the topic is written first, so that of two builders only the later one continues,
and any change of the topic ends the build; the key marks the index as complete at the end.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Final

from core.domain.addresses.ip_address import Family
from core.domain.model import Pool, Subnet
from core.errors import LogCorrupt, LostRace
from core.eventstore.index import COMPLETE, Index, Topic
from core.eventstore.keys import Keys
from core.eventstore.kinds import POOLS, SUBNETS, KeyKind
from core.eventstore.kv import Delete, Get, KeyValueStore, Put, Unchanged, Write

WRITES_PER_STEP_MAX: Final = 120
"""Entries of one transaction; etcd takes 128 operations."""


async def build_index(store: KeyValueStore, keys: Keys, topic: Topic, family: Family) -> None:
    """Write the whole index of a topic and family.

    Raises LostRace if the topic changes during the build, StoreUnavailable, OutcomeUnknown.
    """
    index, guarded = Index(keys, topic, family), keys.guard(topic, family)
    kind: KeyKind[Pool] | KeyKind[Subnet] = POOLS if topic == "pools" else SUBNETS
    held, values = (await store.read([Get(guarded), Get(*kind.range(keys))])).ranges
    revision = held.first.mod_revision if held.first else 0
    fence = await _write(store, guarded, revision, [Put(guarded, b""), Delete(*index.all())])
    entries: dict[bytes, bytes] = {}
    for kv in values.kvs:
        with suppress(LogCorrupt):  # its readers report it; no command is decided on it
            entries |= index.entries(kind.decode(keys, kv.key, kv.value))
    writes: list[Write] = [Put(key, value) for key, value in entries.items()]
    for start in range(0, len(writes), WRITES_PER_STEP_MAX):
        await _write(store, guarded, fence, writes[start : start + WRITES_PER_STEP_MAX])
    await _write(store, guarded, fence, [Put(guarded, COMPLETE)])


async def _write(store: KeyValueStore, guarded: bytes, revision: int, writes: list[Write]) -> int:
    """One step under the guard key as it was; the revision of the step."""
    result = await store.commit([Unchanged(guarded, revision)], writes)
    if not result.succeeded:
        raise LostRace("the configuration changed while its index was built", subject="index")
    return result.revision

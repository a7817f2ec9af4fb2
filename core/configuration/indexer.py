"""Rebuilds an incomplete index of pools or subnets.

A repair, or a write by a version of Orbweaver without indexes, makes an index incomplete.

The build rewrites the topic's guard key first. Every later step requires an unchanged guard key;
the last step marks the index as complete. Every change in the topic rewrites the guard key, too.
Therefore a change in the topic or a later build ends this build.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Final

from core.domain.addresses.ip_address import Family
from core.domain.model import Pool, Subnet
from core.errors import LogCorrupt, LostRace
from core.eventstore.codec import KeyKind
from core.eventstore.keys import Keys
from core.eventstore.kinds import POOL_KEYS, SUBNET_KEYS
from core.eventstore.kv import Delete, Get, KeyValueStore, Put, Unchanged, Write
from core.eventstore.pool_index import COMPLETE_INDEX, Index, Topic

WRITES_PER_STEP_MAX: Final = 120
"""Limit of index entries in one transaction; etcd allows 128 operations."""


async def build_index(store: KeyValueStore, keys: Keys, topic: Topic, family: Family) -> None:
    """Write the whole index of a topic and family.

    Raises StoreUnavailable, OutcomeUnknown, and LostRace if the topic changes.
    """
    index, guard_key = Index(keys, topic, family), keys.guard(topic, family)
    kind: KeyKind[Pool] | KeyKind[Subnet] = POOL_KEYS if topic == "pools" else SUBNET_KEYS
    guard, objects = (await store.read([Get(guard_key), Get(*kind.range(keys))])).ranges
    revision = guard.first.mod_revision if guard.first else 0
    first_writes: list[Write] = [Put(guard_key, b""), Delete(*index.all())]
    build_revision = await _write(store, guard_key, revision, first_writes)
    entries: dict[bytes, bytes] = {}
    for kv in objects.kvs:
        with suppress(LogCorrupt):  # readers of the object report the undecodable value
            entries |= index.entries(kind.decode(keys, kv.key, kv.value))
    writes: list[Write] = [Put(key, value) for key, value in entries.items()]
    for start in range(0, len(writes), WRITES_PER_STEP_MAX):
        batch = writes[start : start + WRITES_PER_STEP_MAX]
        await _write(store, guard_key, build_revision, batch)
    await _write(store, guard_key, build_revision, [Put(guard_key, COMPLETE_INDEX)])


async def _write(store: KeyValueStore, guard_key: bytes, revision: int, writes: list[Write]) -> int:
    """Write if the guard key has this revision; return the revision of the write."""
    result = await store.commit([Unchanged(guard_key, revision)], writes)
    if not result.succeeded:
        raise LostRace(
            "the pools or subnets changed while their index was built",
            subject="index",
            remedy="repeat the command, which builds the index again",
        )
    return result.revision

"""Builds the index of pools or subnets (``core.eventstore.pool_index``) again if it is incomplete.

It is incomplete after a version without an index has written pools or subnets, and after a repair.
The build first writes the guard key of the topic (pools or subnets), which every change of the
topic rewrites, and every later step requires that key to be unchanged. So of two concurrent builds
only the later one continues, and any change of the topic ends the build. The last step marks the
index as complete in the guard key.
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
"""The most index entries that one transaction writes; etcd allows 128 operations."""


async def build_index(store: KeyValueStore, keys: Keys, topic: Topic, family: Family) -> None:
    """Write the whole index of a topic and family.

    Raises StoreUnavailable, OutcomeUnknown, and LostRace if the topic changes during the build.
    """
    index, guard_key = Index(keys, topic, family), keys.guard(topic, family)
    kind: KeyKind[Pool] | KeyKind[Subnet] = POOL_KEYS if topic == "pools" else SUBNET_KEYS
    guard, objects = (await store.read([Get(guard_key), Get(*kind.range(keys))])).ranges
    revision = guard.first.mod_revision if guard.first else 0
    first_writes: list[Write] = [Put(guard_key, b""), Delete(*index.all())]
    build_revision = await _write(store, guard_key, revision, first_writes)
    entries: dict[bytes, bytes] = {}
    for kv in objects.kvs:
        with suppress(LogCorrupt):  # the readers of the object report it
            entries |= index.entries(kind.decode(keys, kv.key, kv.value))
    writes: list[Write] = [Put(key, value) for key, value in entries.items()]
    for start in range(0, len(writes), WRITES_PER_STEP_MAX):
        part = writes[start : start + WRITES_PER_STEP_MAX]
        await _write(store, guard_key, build_revision, part)
    await _write(store, guard_key, build_revision, [Put(guard_key, COMPLETE_INDEX)])


async def _write(store: KeyValueStore, guard_key: bytes, revision: int, writes: list[Write]) -> int:
    """Write if the guard key still has this revision; returns the revision of the write."""
    result = await store.commit([Unchanged(guard_key, revision)], writes)
    if not result.succeeded:
        raise LostRace(
            "the pools or subnets changed while their index was built",
            subject="index",
            remedy="repeat the command, which builds it again",
        )
    return result.revision

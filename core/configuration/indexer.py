"""Rebuilds an incomplete index of pools or subnets (``core.eventstore.pool_index``).

A repair makes an index incomplete. A version of Orbweaver that has no index also makes the index
incomplete when it writes pools or subnets.

The build first rewrites the guard key of the topic (pools or subnets). Every later step requires an
unchanged guard key; the last step marks the index as complete in the guard key. Every change in the
topic also rewrites the guard key. Therefore a change in the topic ends the build, and of two
concurrent builds only the later build continues.
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
        with suppress(LogCorrupt):  # readers of the object report the undecodable value
            entries |= index.entries(kind.decode(keys, kv.key, kv.value))
    writes: list[Write] = [Put(key, value) for key, value in entries.items()]
    for start in range(0, len(writes), WRITES_PER_STEP_MAX):
        part = writes[start : start + WRITES_PER_STEP_MAX]
        await _write(store, guard_key, build_revision, part)
    await _write(store, guard_key, build_revision, [Put(guard_key, COMPLETE_INDEX)])


async def _write(store: KeyValueStore, guard_key: bytes, revision: int, writes: list[Write]) -> int:
    """Write if the guard key still has this revision; return the revision of the write."""
    result = await store.commit([Unchanged(guard_key, revision)], writes)
    if not result.succeeded:
        raise LostRace(
            "the pools or subnets changed while their index was built",
            subject="index",
            remedy="repeat the command, which builds the index again",
        )
    return result.revision

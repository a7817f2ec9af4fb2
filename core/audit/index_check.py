"""Checks that every key can be decoded, and that the indexes of pools and subnets are right.

Only a manual change of etcd makes an index wrong. A new pool could then overlap a pool without
index entries.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from core.audit.repair import RepairStep
from core.domain.evolution import Ledger
from core.domain.model import Pool, Subnet
from core.errors import LogCorrupt
from core.eventstore.codec import KeyKind
from core.eventstore.keys import Keys, key_text
from core.eventstore.kv import Get, KeyValueStore, Put, Unchanged
from core.eventstore.pool_index import COMPLETE_INDEX, FAMILIES, TOPICS, Index
from core.eventstore.undecodable_values import ContainedFault


class IndexFault(NamedTuple):
    """A wrong index. After ``step``, the next command rebuilds the index."""

    subject: str
    text: str
    step: RepairStep


async def check_index(
    store: KeyValueStore, keys: Keys, ledger: Ledger, revision: int
) -> list[IndexFault]:
    """Compare every index with the ledger at this revision. Raises StoreUnavailable, Compacted."""
    faults = []
    for topic in TOPICS:
        values: Iterable[Pool | Subnet] = (
            ledger.pools.values() if topic == "pools" else ledger.subnets.values()
        )
        for family in FAMILIES:
            index, guard_key = Index(keys, topic, family), keys.guard(topic, family)
            gets = [Get(guard_key), Get(*index.all(), keys_only=True)]
            guard, entries = (await store.read(gets, revision=revision)).ranges
            if guard.first is None or guard.first.value != COMPLETE_INDEX:
                continue
            expected = {key for value in values for key in index.entries(value)}
            stored = {kv.key for kv in entries.kvs}
            if expected == stored:
                continue
            name = f"index/{topic}/{family}"
            missing, surplus = len(expected - stored), len(stored - expected)
            text = f"missing keys: {missing}; keys that belong to no object: {surplus}"
            step = RepairStep(
                f"mark {name} as incomplete, so that the next command rebuilds it",
                (Unchanged(guard_key, guard.first.mod_revision),),
                (Put(guard_key, b""),),
            )
            faults.append(IndexFault(name, text, step))
    return faults


async def find_undecodable_keys(
    store: KeyValueStore, keys: Keys, kinds: Iterable[KeyKind[Any]], revision: int = 0
) -> list[ContainedFault]:
    """One fault for each key that cannot be decoded. Raises StoreUnavailable, Compacted."""
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

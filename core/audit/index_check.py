"""Whether an index that is called complete has exactly what the pools and subnets make.

It is written with them, so that only a hand can have changed it; a pool that it lacks could be
overlapped. A repair takes the word back that it is complete, and the next command builds it anew.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from core.audit.repair import RepairStep
from core.domain.evolution import Ledger
from core.domain.model import Pool, Subnet
from core.eventstore.index import COMPLETE, FAMILIES, TOPICS, Index
from core.eventstore.keys import Keys
from core.eventstore.kv import Get, KeyValueStore, Put, Unchanged


class IndexFault(NamedTuple):
    """An index that differs, and the step that has it built anew."""

    subject: str
    text: str
    step: RepairStep


async def check_index(
    store: KeyValueStore, keys: Keys, ledger: Ledger, revision: int
) -> list[IndexFault]:
    """Compare every index with the fold at this revision. Raises StoreUnavailable, Compacted."""
    faults = []
    for topic in TOPICS:
        values: Iterable[Pool | Subnet] = (
            ledger.pools.values() if topic == "pools" else ledger.subnets.values()
        )
        for family in FAMILIES:
            index, guarded = Index(keys, topic, family), keys.guard(topic, family)
            gets = [Get(guarded), Get(*index.all(), keys_only=True)]
            guard, found = (await store.read(gets, revision=revision)).ranges
            if guard.first is None or guard.first.value != COMPLETE:
                continue
            wanted = {key for value in values for key in index.entries(value)}
            there = {kv.key for kv in found.kvs}
            if wanted == there:
                continue
            name = f"index/{topic}/{family}"
            text = f"lacks {len(wanted - there)} keys, and has {len(there - wanted)} of no object"
            step = RepairStep(
                f"have {name} built anew by the next command",
                (Unchanged(guarded, guard.first.mod_revision),),
                (Put(guarded, b""),),
            )
            faults.append(IndexFault(name, text, step))
    return faults

"""The activities of retirements: one step towards the deletion, and the reinstatement.

A step never begins a retirement, so a late or repeated step changes only retiring objects.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from core.configuration.command_scope import ScopeReader
from core.domain.addresses.address_set import AddressSet
from core.domain.configuration.commands import AdvanceRetirement, Reinstate, Retirable
from core.domain.configuration.configuration_state import pool_addresses
from core.domain.subnets.subnet_model import pools_of_subnet
from core.eventstore.codec import CLAIM_CODEC, POOL_CODEC, SUBNET_CODEC
from core.eventstore.keys import Keys
from core.eventstore.kv import Get, KeyValue, KeyValueStore
from workflows.api import activity
from workflows.jobs.retirement.retirement_values import (
    HOLDERS_SHOWN_MAX,
    POOLS_NAMED_MAX,
    BlockingClaim,
    RemainingClaims,
)
from workflows.jobs.shard_writers import ShardWriters

RANGES_PER_READ_MAX: Final = 100
"""etcd accepts 128 operations in one read."""

DELETED: Final = RemainingClaims("gone")
SERVING: Final = RemainingClaims("serving")


class RetirementActivities:
    """The activities of retirements."""

    def __init__(self, store: KeyValueStore, keys: Keys, writers: ShardWriters) -> None:
        self._store = store
        self._keys = keys
        self._writers = writers

    @activity.defn(name="retirement-step")
    async def step(self, kind: Retirable, name: str) -> RemainingClaims:
        """Advance the retirement. Returns what still blocks the deletion.

        Raises as ``ShardWriters.apply``.
        """
        await self._writers.apply(AdvanceRetirement(kind, name))
        return await read_remaining(self._store, self._keys, kind, name)

    @activity.defn(name="retirement-reinstate")
    async def reinstate(self, kind: Retirable, name: str) -> None:
        """Reinstate the object. Raises as ``ShardWriters.apply``."""
        await self._writers.apply(Reinstate(kind, name))


async def read_remaining(
    store: KeyValueStore, keys: Keys, kind: Retirable, name: str
) -> RemainingClaims:
    """What blocks the deletion of an object. Raises StoreUnavailable."""
    if kind == "subnet":
        return await _read_pools_of_subnet(store, keys, name)
    stored = (await store.read([Get(keys.pool(name))])).ranges[0].kvs
    if not stored:
        return DELETED
    pool = POOL_CODEC.decode(stored[0].value)
    if not pool.retiring:
        return SERVING
    count = 0
    holders: list[BlockingClaim] = []
    for gets in _reads(keys, pool_addresses(pool)):
        for answer in (await store.read(gets)).ranges:
            count += answer.count
            holders += [_holder(keys, kv) for kv in answer.kvs]
    return RemainingClaims("held", count, tuple(holders[:HOLDERS_SHOWN_MAX]))


async def _read_pools_of_subnet(store: KeyValueStore, keys: Keys, name: str) -> RemainingClaims:
    stored = (await store.read([Get(keys.subnet(name))])).ranges[0].kvs
    if not stored:
        return DELETED
    if not SUBNET_CODEC.decode(stored[0].value).retiring:
        return SERVING
    step = AdvanceRetirement("subnet", name)
    configuration = (await ScopeReader(store, keys).read(step, may_write=False)).configuration
    pools = [pool.name for pool in pools_of_subnet(name, configuration.pools)]
    return RemainingClaims("held", pool_count=len(pools), pools=tuple(pools[:POOLS_NAMED_MAX]))


def _reads(keys: Keys, addresses: AddressSet) -> Iterator[list[Get]]:
    intervals = list(addresses)
    for start in range(0, len(intervals), RANGES_PER_READ_MAX):
        yield [
            Get(
                keys.ip(addresses.family, first),
                keys.ip(addresses.family, last) + b"\0",
                limit=HOLDERS_SHOWN_MAX,
            )
            for first, last in intervals[start : start + RANGES_PER_READ_MAX]
        ]


def _holder(keys: Keys, kv: KeyValue) -> BlockingClaim:
    claim = CLAIM_CODEC.decode(kv.value)
    return BlockingClaim(
        str(keys.address_in(kv.key)), f"{claim.namespace}/{claim.pod}", kv.mod_revision
    )

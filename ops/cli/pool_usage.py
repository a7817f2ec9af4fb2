"""Counting claims by asking etcd, exactly and at one revision, without reading them.

All claims of a pool lie inside its addresses (I2), and a range of addresses is a range of keys: a
table of a thousand pools costs a few reads whatever is claimed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from core.domain.addresses.address_set import CLAMPED_SIZE_MAX, AddressSet
from core.domain.addresses.ip_address import parse_address
from core.domain.configuration.configuration_state import pool_addresses, usable
from core.domain.evolution import Ledger
from core.domain.model import Pool
from core.eventstore.keys import Keys
from core.eventstore.kv import TXN_OPERATIONS_MAX, Get, KeyValueStore


class PoolUsage(NamedTuple):
    """The numbers of a pool's held addresses, and of those that may be handed out."""

    claimed: int
    free: int


async def count_pools(
    store: KeyValueStore, keys: Keys, ledger: Ledger, pools: Sequence[Pool]
) -> dict[str, PoolUsage]:
    """Counts by pool name at the ledger's position; the ledger has the configuration.

    Raises Compacted, StoreUnavailable.
    """
    whole = [pool_addresses(pool) for pool in pools]
    open_ = [available(pool, ledger) for pool in pools]
    found = await count_claims(store, keys, [*whole, *open_], ledger.position)
    claimed, taken = found[: len(pools)], found[len(pools) :]
    return {
        pool.name: PoolUsage(
            claimed[index], min(open_[index].size - taken[index], CLAMPED_SIZE_MAX)
        )
        for index, pool in enumerate(pools)
    }


def available(pool: Pool, ledger: Ledger) -> AddressSet:
    """What may be handed out of a pool, held or not."""
    quarantined = [
        parse_address(one.address).value
        for one in ledger.quarantine.values()
        if one.family == pool.family
    ]
    return usable(pool, ledger.reservations) - AddressSet.from_values(quarantined, pool.family)


async def count_claims(
    store: KeyValueStore, keys: Keys, sets: Sequence[AddressSet], revision: int
) -> list[int]:
    """The number of claims in each set. Raises Compacted, StoreUnavailable."""
    gets = [
        (index, Get(keys.ip(one.family, first), keys.ip(one.family, last) + b"\0", count_only=True))
        for index, one in enumerate(sets)
        for first, last in one
    ]
    counts = [0] * len(sets)
    for start in range(0, len(gets), TXN_OPERATIONS_MAX):
        part = gets[start : start + TXN_OPERATIONS_MAX]
        result = await store.read([get for _, get in part], revision=revision)
        for (index, _), answer in zip(part, result.ranges, strict=True):
            counts[index] += answer.count
    return counts


def claims_by_pool(ledger: Ledger) -> Mapping[str, list[str]]:
    """The allocated addresses of each pool, in their order."""
    addresses_of: dict[str, list[str]] = {name: [] for name in ledger.pools}
    for address, held in ledger.claims.items():
        addresses_of.setdefault(held.claim.pool, []).append(address)
    for addresses in addresses_of.values():
        addresses.sort(key=parse_address)
    return addresses_of

"""Counts claims with count-only reads of etcd at one revision.

A range of addresses is a range of keys, so the number of reads does not depend on the number of
claims. All claims of a pool are inside the pool's addresses (invariant I2,
docs/contributing/architecture.md).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from core.domain.addresses.address_set import CLAMPED_SIZE_MAX, AddressSet
from core.domain.addresses.ip_address import parse_address
from core.domain.configuration.configuration_state import pool_addresses, unreserved_addresses
from core.domain.evolution import Ledger
from core.domain.model import Pool
from core.eventstore.keys import Keys
from core.eventstore.kv import TXN_OPERATIONS_MAX, Get, KeyValueStore


class PoolUsage(NamedTuple):
    """A pool's numbers of claimed and free addresses."""

    claimed: int
    free: int


async def count_pools(
    store: KeyValueStore, keys: Keys, ledger: Ledger, pools: Sequence[Pool]
) -> dict[str, PoolUsage]:
    """Count claimed and free addresses by pool name, at revision ``ledger.position``.

    Raises Compacted, StoreUnavailable.
    """
    all_addresses = [pool_addresses(pool) for pool in pools]
    usable_addresses = [usable_addresses_of(pool, ledger) for pool in pools]
    counts = await count_claims(store, keys, all_addresses + usable_addresses, ledger.position)
    claimed, claimed_usable = counts[: len(pools)], counts[len(pools) :]
    free = [
        min(addresses.size - count, CLAMPED_SIZE_MAX)
        for addresses, count in zip(usable_addresses, claimed_usable, strict=True)
    ]
    return {pool.name: PoolUsage(claimed[index], free[index]) for index, pool in enumerate(pools)}


def usable_addresses_of(pool: Pool, ledger: Ledger) -> AddressSet:
    """The claimed and free addresses that are neither reserved nor quarantined."""
    quarantined = [
        parse_address(quarantine.address).value
        for quarantine in ledger.quarantine.values()
        if quarantine.family == pool.family
    ]
    return unreserved_addresses(pool, ledger.reservations) - AddressSet.from_values(
        quarantined, pool.family
    )


async def count_claims(
    store: KeyValueStore, keys: Keys, sets: Sequence[AddressSet], revision: int
) -> list[int]:
    """The number of claims in each set. Raises Compacted, StoreUnavailable."""
    gets = [
        (
            index,
            Get(
                keys.ip(addresses.family, first),
                keys.ip(addresses.family, last) + b"\0",
                count_only=True,
            ),
        )
        for index, addresses in enumerate(sets)
        for first, last in addresses
    ]
    counts = [0] * len(sets)
    for start in range(0, len(gets), TXN_OPERATIONS_MAX):
        batch = gets[start : start + TXN_OPERATIONS_MAX]
        result = await store.read([get for _, get in batch], revision=revision)
        for (index, _), answer in zip(batch, result.ranges, strict=True):
            counts[index] += answer.count
    return counts


def claims_by_pool(ledger: Ledger) -> Mapping[str, list[str]]:
    """The claimed addresses of each pool, sorted."""
    addresses_of: dict[str, list[str]] = {name: [] for name in ledger.pools}
    for address, claim_at_revision in ledger.claims.items():
        addresses_of.setdefault(claim_at_revision.claim.pool, []).append(address)
    for addresses in addresses_of.values():
        addresses.sort(key=parse_address)
    return addresses_of

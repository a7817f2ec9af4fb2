"""The relation of subnets and pools: ownership, adoption, and counts of addresses.

A pool belongs to the subnet with the same CIDR; the pool's label names this subnet. No two subnets
have the same CIDR. All functions are pure and compute with ranges, not with single addresses.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final, NamedTuple

from core.domain.addresses.address_set import CLAMPED_SIZE_MAX, AddressSet
from core.domain.autopools.pool_names import OWNER_SUBNET, application_of
from core.domain.configuration.configuration_state import pool_addresses
from core.domain.model import Pool, Subnet

POOLS_PER_TRANSACTION_MAX: Final = 64


class Share(NamedTuple):
    """The addresses of a subnet that belong to one pool.

    ``application``: ``apps_v1_Deployment_shop_web``, for example; "" if the pool is not automatic.
    """

    pool: str
    ips: tuple[str, ...]
    application: str = ""


class SubnetCounts(NamedTuple):
    """Addresses of a subnet: in total, in pools, in no pool. Each count is at most 2**63 - 1."""

    total: int
    allocated: int
    free: int


def owner_subnet_name(pool: Pool) -> str:
    """The subnet in the pool's label; "" without the label."""
    return pool.labels.get(OWNER_SUBNET, "")


def subnet_for(pool: Pool, subnets: Mapping[str, Subnet]) -> Subnet | None:
    """The subnet with the pool's CIDR, even a retiring one."""
    cidr = (pool.family, pool.subnet)
    return next(
        (subnet for subnet in subnets.values() if (subnet.family, subnet.subnet) == cidr), None
    )


def pools_of_same_cidr(subnet: Subnet, pools: Mapping[str, Pool]) -> Iterator[Pool]:
    """Pools with the subnet's CIDR, with or without its label, sorted by name."""
    cidr = (subnet.family, subnet.subnet)
    for name in sorted(pools):
        pool = pools[name]
        if (pool.family, pool.subnet) == cidr:
            yield pool


def pools_of_subnet(subnet: str, pools: Mapping[str, Pool]) -> list[Pool]:
    """Pools whose label names the subnet, sorted by name."""
    return [pool for _, pool in sorted(pools.items()) if owner_subnet_name(pool) == subnet]


def adopt(pool: Pool, subnets: Mapping[str, Subnet], existing: Pool | None = None) -> Pool:
    """Label the pool with the subnet of the same CIDR, or remove the label if there is none.

    A newly labelled pool gets a missing gateway and missing routes from the subnet, or from the
    stored pool ``existing`` if that has the label. A gateway that a user removed from a labelled
    pool stays removed.
    """
    subnet = subnet_for(pool, subnets)
    if subnet is None:
        if OWNER_SUBNET not in pool.labels:
            return pool
        labels = {key: value for key, value in pool.labels.items() if key != OWNER_SUBNET}
        return pool._replace(labels=labels)
    if owner_subnet_name(pool) == subnet.name:
        return pool
    source: Pool | Subnet = subnet
    if existing is not None and owner_subnet_name(existing) == subnet.name:
        source = existing
    return pool._replace(
        labels={**pool.labels, OWNER_SUBNET: subnet.name},
        gateway=pool.gateway or source.gateway,
        routes=source.routes if pool.routes is None else pool.routes,
    )


def shares_of_subnet(subnet: str, pools: Mapping[str, Pool]) -> list[Share]:
    """The shares of the pools that have addresses, sorted by pool name."""
    return [
        Share(
            pool.name, tuple(addresses_of_pool.to_items()), str(application_of(pool.labels) or "")
        )
        for pool in pools_of_subnet(subnet, pools)
        if (addresses_of_pool := pool_addresses(pool))
    ]


def addresses_of_pools(subnet: Subnet, pools: Iterable[Pool]) -> AddressSet:
    """All pools must have the subnet's family."""
    intervals = [interval for pool in pools for interval in pool_addresses(pool)]
    return AddressSet.from_intervals(intervals, subnet.family)


def count_addresses(subnet: Subnet, pools: Mapping[str, Pool]) -> SubnetCounts:
    """Count a subnet's addresses."""
    total = pool_addresses(subnet)
    allocated = addresses_of_pools(subnet, pools_of_subnet(subnet.name, pools))
    exact_counts = (total.size, allocated.size, (total - allocated).size)
    return SubnetCounts(*(min(number, CLAMPED_SIZE_MAX) for number in exact_counts))

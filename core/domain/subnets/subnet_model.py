"""Subnets and their pools: the subnet of a pool, its share, and the free part of the subnet.

The share of a pool is its own list of addresses; there is no second record that could differ. A
pool belongs to the subnet with the same CIDR, of which there is at most one, and its label names
that subnet. Pure interval arithmetic; addresses are never enumerated.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final, NamedTuple

from core.domain.addresses.address_set import CLAMPED_SIZE_MAX, AddressSet
from core.domain.autopools.pool_names import OWNER_SUBNET, application_of
from core.domain.configuration.configuration_state import pool_addresses
from core.domain.model import Pool, Subnet

POOLS_PER_STEP_MAX: Final = 64
"""The most pools that one command adopts or retires: all change in its transaction."""


class Share(NamedTuple):
    """The addresses that a pool has of its subnet.

    ``application``: as in the subnet's status (``apps_v1_Deployment_shop_web``), "" for a manual
    pool.
    """

    pool: str
    ips: tuple[str, ...]
    application: str = ""


class SubnetCounts(NamedTuple):
    """Numbers of addresses of a subnet: all, those in pools, the others; 2**63 - 1 at most."""

    total: int
    allocated: int
    free: int


def owner_subnet_name(pool: Pool) -> str:
    """The name of the subnet to which the pool belongs, "" if it belongs to none."""
    return pool.labels.get(OWNER_SUBNET, "")


def subnet_for(pool: Pool, subnets: Mapping[str, Subnet]) -> Subnet | None:
    """The subnet with the pool's CIDR, even if it is retiring.

    See docs/reference/admission.md, "Answers".
    """
    cidr = (pool.family, pool.subnet)
    return next(
        (subnet for subnet in subnets.values() if (subnet.family, subnet.subnet) == cidr), None
    )


def same_cidr(subnet: Subnet, pools: Mapping[str, Pool]) -> Iterator[Pool]:
    """The pools with the subnet's CIDR, adopted or not, sorted by name."""
    cidr = (subnet.family, subnet.subnet)
    for name in sorted(pools):
        pool = pools[name]
        if (pool.family, pool.subnet) == cidr:
            yield pool


def pools_of_subnet(subnet: str, pools: Mapping[str, Pool]) -> list[Pool]:
    """The pools that belong to a subnet, sorted by name."""
    return [pool for _, pool in sorted(pools.items()) if owner_subnet_name(pool) == subnet]


def adopt(pool: Pool, subnets: Mapping[str, Subnet], existing: Pool | None = None) -> Pool:
    """The pool with its subnet's label, and with the subnet's gateway and routes if it has none.

    Gateway and routes are inherited once. A pool that already has the subnet's label is not
    changed, so that a gateway that a user has removed does not come back. If only the label is
    missing, the gateway and routes of ``existing`` are used, not those of the subnet, which may
    have changed. A label of a subnet with another CIDR is removed.
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
    """The share of each pool of the subnet, by name; a pool without addresses has none."""
    return [
        Share(pool.name, tuple(owned.to_items()), str(application_of(pool.labels) or ""))
        for pool in pools_of_subnet(subnet, pools)
        if (owned := pool_addresses(pool))
    ]


def addresses_of_pools(subnet: Subnet, pools: Iterable[Pool]) -> AddressSet:
    """All addresses of these pools, which have the subnet's family."""
    intervals = [interval for pool in pools for interval in pool_addresses(pool)]
    return AddressSet.from_intervals(intervals, subnet.family)


def count_addresses(subnet: Subnet, pools: Mapping[str, Pool]) -> SubnetCounts:
    """Count the subnet's addresses: all, those in pools, and those in no pool."""
    total = pool_addresses(subnet)
    allocated = addresses_of_pools(subnet, pools_of_subnet(subnet.name, pools))
    exact = (total.size, allocated.size, (total - allocated).size)
    return SubnetCounts(*(min(number, CLAMPED_SIZE_MAX) for number in exact))

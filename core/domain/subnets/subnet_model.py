"""Subnets and their pools: the subnet of a pool, its share, and the rest of the subnet.

The share of a pool is the pool's own addresses: there is no second record that could differ. A pool
belongs to the subnet with its CIDR, of which there is at most one, and its label names that subnet.
Pure interval arithmetic; addresses are never enumerated.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final, NamedTuple

from core.domain.addresses.address_set import CLAMPED_SIZE_MAX, AddressSet
from core.domain.autopools.names import OWNER_SUBNET, application_of
from core.domain.configuration.configuration_state import pool_addresses
from core.domain.model import Pool, Subnet

POOLS_PER_STEP_MAX: Final = 64
"""Pools that one command adopts or retires: all of them change in its transaction."""


class Share(NamedTuple):
    """What a pool has of its subnet; ``application`` as in the status, "" for a manual pool."""

    pool: str
    ips: tuple[str, ...]
    application: str = ""


class SubnetCounts(NamedTuple):
    """Addresses of a subnet, 2**63 - 1 at most: all, those its pools have, those that are left."""

    total: int
    allocated: int
    free: int


def owner_of(pool: Pool) -> str:
    """The name of the subnet that the pool belongs to, "" for an orphan."""
    return pool.labels.get(OWNER_SUBNET, "")


def subnet_for(pool: Pool, subnets: Mapping[str, Subnet]) -> Subnet | None:
    """The subnet with the pool's CIDR; one that is being retired counts too.

    See docs/reference/admission.md, "Answers".
    """
    cidr = (pool.family, pool.subnet)
    return next((one for one in subnets.values() if (one.family, one.subnet) == cidr), None)


def same_cidr(subnet: Subnet, pools: Mapping[str, Pool]) -> Iterator[Pool]:
    """Every pool of the subnet's CIDR, whether it was adopted already or not, by name."""
    cidr = (subnet.family, subnet.subnet)
    for name in sorted(pools):
        pool = pools[name]
        if (pool.family, pool.subnet) == cidr:
            yield pool


def controlled(subnet: str, pools: Mapping[str, Pool]) -> list[Pool]:
    """The pools that belong to a subnet, by name."""
    return [pool for _, pool in sorted(pools.items()) if owner_of(pool) == subnet]


def adopt(pool: Pool, subnets: Mapping[str, Subnet], existing: Pool | None = None) -> Pool:
    """The pool as its subnet's: labelled, with gateway and routes where it brings none.

    They are inherited once: a pool that says it belongs to the subnet is taken as it is, so what
    was removed from it does not come back; one that belonged to it before keeps what it had,
    whatever the subnet says by now. A label that names no such subnet is dropped.
    """
    subnet = subnet_for(pool, subnets)
    if subnet is None:
        if OWNER_SUBNET not in pool.labels:
            return pool
        kept = {key: value for key, value in pool.labels.items() if key != OWNER_SUBNET}
        return pool._replace(labels=kept)
    if owner_of(pool) == subnet.name:
        return pool
    is_ours = existing is not None and owner_of(existing) == subnet.name
    source = existing if is_ours and existing is not None else subnet
    return pool._replace(
        labels={**pool.labels, OWNER_SUBNET: subnet.name},
        gateway=pool.gateway or source.gateway,
        routes=source.routes if pool.routes is None else pool.routes,
    )


def shares(subnet: str, pools: Mapping[str, Pool]) -> list[Share]:
    """What each pool of the subnet has of it, by name; pools without addresses have nothing."""
    return [
        Share(pool.name, tuple(owned.to_items()), str(application_of(pool.labels) or ""))
        for pool in controlled(subnet, pools)
        if (owned := pool_addresses(pool))
    ]


def shared_out(subnet: Subnet, pools: Iterable[Pool]) -> AddressSet:
    """All addresses that these pools have, in the subnet's family."""
    intervals = [interval for pool in pools for interval in pool_addresses(pool)]
    return AddressSet.from_intervals(intervals, subnet.family)


def count(subnet: Subnet, pools: Mapping[str, Pool]) -> SubnetCounts:
    """The counters of the subnet's status, and the addresses that no pool has."""
    whole = pool_addresses(subnet)
    shared = shared_out(subnet, controlled(subnet.name, pools))
    exact = (whole.size, shared.size, (whole - shared).size)
    return SubnetCounts(*(min(one, CLAMPED_SIZE_MAX) for one in exact))

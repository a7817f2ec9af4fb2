"""The rules about subnets in the history checker (``core.domain.log_checker``).

    subnet-share    a pool has addresses outside its subnet, or the subnet in its label is missing
                    or has another CIDR than the pool
    subnet-overlap  the CIDRs of two subnets overlap
    subnet-empty    an event deletes a subnet with pools or a missing subnet

The ledger has the state before the event.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, TypeAlias

from core.domain.addresses.address_set import AddressSet
from core.domain.addresses.ip_address import AddressSyntaxError, parse_cidr
from core.domain.configuration.configuration_state import pool_addresses
from core.domain.evolution import Ledger
from core.domain.model import Pool, Subnet
from core.domain.subnets.subnet_model import owner_subnet_name, pools_of_subnet
from core.domain.validation.common_rules import counted

SUBNET_SHARE: Final = "subnet-share"
SUBNET_OVERLAP: Final = "subnet-overlap"
SUBNET_EMPTY: Final = "subnet-empty"

Finding: TypeAlias = tuple[str, str, str]
"""(rule, subject, text)."""


def check_subnet_of_pool(pool: Pool, ledger: Ledger) -> Iterator[Finding]:
    """Check that a new or changed pool lies in its subnet."""
    name = owner_subnet_name(pool)
    if not name:
        return
    subnet = ledger.subnets.get(name)
    if subnet is None or (subnet.family, subnet.subnet) != (pool.family, pool.subnet):
        text = f"belongs to subnet {name}, which does not exist or has another CIDR"
        yield SUBNET_SHARE, pool.name, f"{text} than {pool.subnet}"
        return
    yield from _outside(pool, subnet)


def check_subnet(subnet: Subnet, ledger: Ledger) -> Iterator[Finding]:
    """Check a new or changed subnet."""
    cidr = _cidr(subnet)
    for other in ledger.subnets.values():
        if other.name != subnet.name and other.family == subnet.family:
            other_cidr = _cidr(other)
            if cidr is not None and other_cidr is not None and not cidr.isdisjoint(other_cidr):
                text = f"{subnet.subnet} overlaps {other.subnet} of subnet {other.name}"
                yield SUBNET_OVERLAP, subnet.name, text
    for pool in pools_of_subnet(subnet.name, ledger.pools):
        yield from _outside(pool, subnet)


def check_deletion(name: str, ledger: Ledger) -> Iterator[Finding]:
    """Check a subnet's deletion."""
    if name not in ledger.subnets:
        yield SUBNET_EMPTY, name, "is deleted but does not exist"
    pools = pools_of_subnet(name, ledger.pools)
    if pools:
        text = f"is deleted while it has {counted(len(pools), 'pool')}, such as {pools[0].name}"
        yield SUBNET_EMPTY, name, text


def _outside(pool: Pool, subnet: Subnet) -> Iterator[Finding]:
    if pool.family != subnet.family:
        text = f"is IPv{pool.family}, but subnet {subnet.name} is IPv{subnet.family}"
        yield SUBNET_SHARE, pool.name, text
        return
    try:
        outside = pool_addresses(pool) - pool_addresses(subnet)
    except AddressSyntaxError as error:
        yield SUBNET_SHARE, subnet.name, str(error)
        return
    if outside:
        text = f"has {outside.to_items()[0]} outside of subnet {subnet.name}"
        yield SUBNET_SHARE, pool.name, text


def _cidr(subnet: Subnet) -> AddressSet | None:
    """None if the CIDR is malformed."""
    try:
        return AddressSet.from_cidr(parse_cidr(subnet.subnet))
    except AddressSyntaxError:
        return None

"""The rules of a subnet and of the pools in it.

See docs/reference/admission.md, "SpiderSubnet", and rule 5 of "SpiderIPPool". Malformed addresses
in a stored object cause a refusal of kind Internal.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import Final

from core.domain.addresses.address_set import AddressSet
from core.domain.addresses.ip_address import AddressSyntaxError, Cidr
from core.domain.autopools.pool_names import OWNER_NAME
from core.domain.configuration.configuration_state import pool_addresses
from core.domain.model import Pool, Subnet
from core.domain.subnets.subnet_model import pools_of_same_cidr, subnet_for
from core.domain.validation.common_rules import ObjectReference
from core.domain.validation.pool_rules import (
    cidr_of_subnet,
    faulty_items,
    gateway_rule,
    overlaps,
    ranges_text,
    routes_rule,
)
from core.errors import Refusal

POOLS_SHOWN_MAX: Final = 8


def subnets_apart_rule(
    subject: ObjectReference, subnet: Subnet, subnets: Mapping[str, Subnet]
) -> Iterator[Refusal]:
    """Subnets must not overlap. The first overlapping subnet by name is reported."""
    cidr = cidr_of_subnet(subnet.subnet)
    for name, other in sorted(subnets.items()):
        if other.family == subnet.family and name != subnet.name and overlaps(cidr, other):
            message = f"{cidr} overlaps {other.subnet}, the CIDR of SpiderSubnet/{name}"
            remedy = "change that SpiderSubnet, or choose a CIDR that does not overlap it"
            yield subject.refuse("Invalid", "subnet-overlap", "spec.subnet", message, remedy)
            return


def pools_inside_rule(
    subject: ObjectReference, subnet: Subnet, pools: Mapping[str, Pool]
) -> Iterator[Refusal]:
    """Rule 4 of "SpiderSubnet". The first violation by pool name is reported.

    A pool with the subnet's CIDR must have only addresses of the subnet. A pool with another CIDR
    must not overlap the subnet.
    """
    cidr = cidr_of_subnet(subnet.subnet)
    for name, pool in sorted(pools.items()):
        if pool.family != subnet.family:
            continue
        if pool.subnet != subnet.subnet:
            if overlaps(cidr, pool):
                message = f"{cidr} overlaps {pool.subnet}, the subnet of SpiderIPPool/{name}"
                remedy = "use exactly that CIDR, or one that does not overlap it"
                yield subject.refuse("Invalid", "pool-overlap", "spec.subnet", message, remedy)
                return
            continue
        try:
            outside = pool_addresses(pool) - pool_addresses(subnet)
        except AddressSyntaxError as error:
            yield _malformed(subject, f"SpiderSubnet/{subnet.name} or SpiderIPPool/{name}", error)
            return
        if outside:
            message = (
                f"{ranges_text(outside)} of SpiderIPPool/{name} would be outside of the subnet"
            )
            remedy = "add these addresses to the subnet, or remove them from the pool first"
            yield subject.refuse("Invalid", "pool-outside", "spec.ips", message, remedy)
            return


def subnet_content_rules(subject: ObjectReference, subnet: Subnet) -> Iterator[Refusal]:
    """The first refusal about items, gateway or routes. The caller must check the CIDR first."""
    cidr = cidr_of_subnet(subnet.subnet)
    rules = chain(
        _items_rule(subject, subnet, cidr),
        gateway_rule(subject, subnet, cidr),
        routes_rule(subject, subnet, cidr),
    )
    yield from islice(rules, 1)


def retiring_subnet_rule(
    subject: ObjectReference, existing: Subnet, subnet: Subnet
) -> Iterator[Refusal]:
    """Only labels and annotations may change."""
    if existing._replace(labels=subnet.labels, annotations=subnet.annotations) != subnet:
        message = "the subnet is being retired: only its labels and annotations may change"
        remedy = "wait until it is deleted, then create it again"
        yield subject.refuse("Forbidden", "retiring", "spec", message, remedy)


def shares_kept_rule(
    subject: ObjectReference, subnet: Subnet, pools: Mapping[str, Pool]
) -> Iterator[Refusal]:
    """A pool's addresses must stay in its subnet. The first violation is reported."""
    addresses = pool_addresses(subnet)
    for pool in pools_of_same_cidr(subnet, pools):
        try:
            removed = pool_addresses(pool) - addresses
        except AddressSyntaxError as error:
            yield _malformed(subject, f"SpiderIPPool/{pool.name}", error)
            return
        if removed:
            # Spiderpool's text.
            message = f"remove some IP ranges {ranges_text(removed)} used by IPPool {pool.name}"
            remedy = "remove them from that pool first, or keep them in the subnet"
            yield subject.refuse("Forbidden", "share-in-use", "spec.ips", message, remedy)
            return


def no_pools_rule(subject: ObjectReference, pools: Sequence[Pool]) -> Iterator[Refusal]:
    """A subnet with pools must not be deleted."""
    if pools:
        names = ", ".join(pool.name for pool in pools[:POOLS_SHOWN_MAX])
        more = len(pools) - POOLS_SHOWN_MAX
        tail = f" and {more} more" if more > 0 else ""
        message = f"the subnet still has pools: {names}{tail}"
        remedy = "delete these pools first, or delete all of them with `orbctl delete --drain`"
        yield subject.refuse("Forbidden", "subnet-in-use", field="", message=message, remedy=remedy)


def owner_rules(
    subject: ObjectReference, pool: Pool, existing: Pool | None, subnets: Mapping[str, Subnet]
) -> Iterator[Refusal]:
    """Rule 5 of "SpiderIPPool": a pool must have only addresses of its subnet.

    Users must not change an automatic pool's addresses. A new pool without addresses passes.
    """
    subnet = subnet_for(pool, subnets)
    addresses = pool_addresses(pool)
    if subnet is None or not (addresses or existing):
        return
    try:
        outside = addresses - pool_addresses(subnet)
    except AddressSyntaxError as error:
        yield _malformed(subject, f"SpiderSubnet/{subnet.name}", error)
        return
    if outside:
        message = f"{ranges_text(outside)} is outside of SpiderSubnet/{subnet.name}"
        remedy = "add these addresses to the subnet, or remove them from the pool"
        yield subject.refuse("Forbidden", "outside-owner", "spec.ips", message, remedy)
    elif OWNER_NAME in pool.labels and _addresses_of(existing) != _addresses_of(pool):
        # The text before the colon is Spiderpool's.
        message = "it's illegal to update AutoPool.Spec.IPs: an automatic pool gets its addresses"
        message += f" from SpiderSubnet/{subnet.name} by the size of its application"
        remedy = "change ippool-ip-number of the Pod template, or remove the owner-application-*"
        remedy += " labels and podAffinity to make this a manual pool"
        yield subject.refuse("Forbidden", "auto-pool-share", "spec.ips", message, remedy)


def _items_rule(subject: ObjectReference, subnet: Subnet, cidr: Cidr) -> Iterator[Refusal]:
    for path, rule, message in faulty_items(subnet, cidr):
        yield subject.refuse("Invalid", rule, path, message)


def _malformed(subject: ObjectReference, name: str, error: AddressSyntaxError) -> Refusal:
    message = f"{name} has malformed addresses: {error}"
    remedy = f"correct the addresses of {name}"
    return subject.refuse("Internal", "item-syntax", "spec.ips", message, remedy)


def _addresses_of(pool: Pool | None) -> AddressSet | None:
    """None if there is no pool or its addresses are malformed."""
    try:
        return pool_addresses(pool) if pool is not None else None
    except AddressSyntaxError:
        return None

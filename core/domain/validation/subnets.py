"""The rules of a subnet and of the pools in it.

See docs/reference/admission.md, "SpiderSubnet", and rule 5 of "SpiderIPPool".

As for pools each rule is a generator of refusals, fields and kinds are those of the spec, addresses
are compared parsed and never enumerated. An object that is stored and cannot be read is Internal
where it would have to be compared (docs/reference/admission.md, "SpiderIPPool", rule 5, and
"SpiderSubnet", rule 4).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import Final

from core.domain.addresses.address_set import AddressSet
from core.domain.addresses.ip_address import AddressSyntaxError, Cidr
from core.domain.autopools.names import OWNER_NAME
from core.domain.configuration.configuration_state import pool_addresses
from core.domain.model import Pool, Subnet
from core.domain.subnets.subnet_model import same_cidr, subnet_for
from core.domain.validation.pools import (
    cidr_of_subnet,
    faulty_items,
    gateway_rule,
    routes_rule,
    shown,
)
from core.domain.validation.shared import ObjectReference
from core.errors import Refusal

POOLS_SHOWN_MAX: Final = 8
"""Pools that a refusal lists; it always states their number."""


def subnets_apart_rule(
    subject: ObjectReference, subnet: Subnet, subnets: Mapping[str, Subnet]
) -> Iterator[Refusal]:
    """No other subnet has an address of this CIDR, nor the same CIDR; the first one by name."""
    cidr = cidr_of_subnet(subnet.subnet)
    for name, other in sorted(subnets.items()):
        if other.family == subnet.family and name != subnet.name and _overlap(cidr, other):
            message = f"{cidr} overlaps {other.subnet}, the CIDR of SpiderSubnet/{name}"
            remedy = "one SpiderSubnet has a CIDR alone: change that one, or choose another CIDR"
            yield subject.refuse("Invalid", "subnet-overlap", "spec.subnet", message, remedy)
            return


def pools_inside_rule(
    subject: ObjectReference, subnet: Subnet, pools: Mapping[str, Pool]
) -> Iterator[Refusal]:
    """Every pool there is: of another CIDR and apart, or of this one and inside; the first fault.

    A list of the subnet that cannot be read is Internal as soon as it would have to contain a pool
    (docs/reference/admission.md, "SpiderSubnet", rule 4).
    """
    cidr = cidr_of_subnet(subnet.subnet)
    for name, pool in sorted(pools.items()):
        if pool.family != subnet.family:
            continue
        if pool.subnet != subnet.subnet:
            if _overlap(cidr, pool):
                message = f"{cidr} overlaps {pool.subnet}, the subnet of SpiderIPPool/{name}"
                remedy = "use exactly that CIDR, or one that is apart from it"
                yield subject.refuse("Invalid", "pool-overlap", "spec.subnet", message, remedy)
                return
            continue
        try:
            outside = pool_addresses(pool) - pool_addresses(subnet)
        except AddressSyntaxError as error:
            yield _unreadable(subject, f"SpiderSubnet/{subnet.name} or SpiderIPPool/{name}", error)
            return
        if outside:
            message = f"{shown(outside)} of SpiderIPPool/{name} would be outside of the subnet"
            remedy = "add these addresses, or take them out of the pool first"
            yield subject.refuse("Invalid", "pool-outside", "spec.ips", message, remedy)
            return


def subnet_content_rules(subject: ObjectReference, subnet: Subnet) -> Iterator[Refusal]:
    """Items, gateway and routes: the first failure. The CIDR is known to be good."""
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
    """Only labels and annotations of a retiring subnet may change."""
    if existing._replace(labels=subnet.labels, annotations=subnet.annotations) != subnet:
        message = "the subnet is being retired: only its labels and annotations may change"
        remedy = "wait until it is deleted, then create it again"
        yield subject.refuse("Forbidden", "retiring", "spec", message, remedy)


def shares_kept_rule(
    subject: ObjectReference, subnet: Subnet, pools: Mapping[str, Pool]
) -> Iterator[Refusal]:
    """Addresses that a pool has cannot be removed from its subnet; the first pool by name."""
    addresses = pool_addresses(subnet)
    for pool in same_cidr(subnet, pools):
        try:
            lost = pool_addresses(pool) - addresses
        except AddressSyntaxError as error:
            yield _unreadable(subject, f"SpiderIPPool/{pool.name}", error)
            return
        if lost:
            message = f"remove some IP ranges {shown(lost)} used by IPPool {pool.name}"
            remedy = "take them out of that pool first, or keep them here"
            yield subject.refuse("Forbidden", "share-in-use", "spec.ips", message, remedy)
            return


def no_pools_rule(subject: ObjectReference, pools: Sequence[Pool]) -> Iterator[Refusal]:
    """A subnet is deleted only when no pool belongs to it."""
    if pools:
        names = ", ".join(pool.name for pool in pools[:POOLS_SHOWN_MAX])
        more = len(pools) - POOLS_SHOWN_MAX
        tail = f" and {more} more" if more > 0 else ""
        message = f"pools belong to it: {names}{tail}"
        remedy = "delete these pools first, or `orbctl delete --drain`, which does both"
        yield subject.refuse("Forbidden", "subnet-in-use", "", message, remedy)


def owner_rules(
    subject: ObjectReference, pool: Pool, existing: Pool | None, subnets: Mapping[str, Subnet]
) -> Iterator[Refusal]:
    """A pool stays inside its subnet; an automatic one has what planning gave it.

    See docs/reference/admission.md, "SpiderIPPool", rule 5.

    A pool without addresses passes without a look when it is created.
    """
    subnet = subnet_for(pool, subnets)
    addresses = pool_addresses(pool)
    if subnet is None or not (addresses or existing):
        return
    try:
        outside = addresses - pool_addresses(subnet)
    except AddressSyntaxError as error:
        yield _unreadable(subject, f"SpiderSubnet/{subnet.name}", error)
        return
    if outside:
        message = f"{shown(outside)} is outside of SpiderSubnet/{subnet.name}"
        remedy = "add these addresses to the subnet, or take them out here"
        yield subject.refuse("Forbidden", "outside-owner", "spec.ips", message, remedy)
    elif OWNER_NAME in pool.labels and _extent(existing) != _extent(pool):
        message = "it's illegal to update AutoPool.Spec.IPs: SpiderSubnet/" + subnet.name
        message += " gives an automatic pool its addresses by the size of its application"
        remedy = "change ippool-ip-number of the Pod template, or remove the owner-application-*"
        remedy += " labels and podAffinity to make this a manual pool"
        yield subject.refuse("Forbidden", "auto-pool-share", "spec.ips", message, remedy)


def _items_rule(subject: ObjectReference, subnet: Subnet, cidr: Cidr) -> Iterator[Refusal]:
    """Every item of ips and excludeIPs parses and lies in the CIDR; reported at the item."""
    for path, rule, message in faulty_items(subnet, cidr):
        yield subject.refuse("Invalid", rule, path, message)


def _unreadable(subject: ObjectReference, name: str, error: AddressSyntaxError) -> Refusal:
    message = f"{name} cannot be read: {error}"
    remedy = f"correct the addresses of {name}"
    return subject.refuse("Internal", "item-syntax", "spec.ips", message, remedy)


def _extent(pool: Pool | None) -> AddressSet | None:
    """A pool's addresses; None without a pool, and for one that cannot be read."""
    try:
        return pool_addresses(pool) if pool is not None else None
    except AddressSyntaxError:
        return None


def _overlap(cidr: Cidr, other: Pool | Subnet) -> bool:
    try:
        theirs = cidr_of_subnet(other.subnet)
    except AddressSyntaxError:
        return False  # no network has it; ``orbctl verify`` names the object
    return cidr.first <= theirs.last and theirs.first <= cidr.last

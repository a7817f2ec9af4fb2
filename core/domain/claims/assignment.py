"""Decides the claims of addresses that an operator or an import from another IPAM has chosen.

Either all these addresses are claimed, or none. Affinity is not checked, because the caller has
chosen the pool.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, NamedTuple

from core.domain.addresses.address_set import AddressSet
from core.domain.addresses.ip_address import Address, format_address, parse_address, parse_cidr
from core.domain.events import AddressesClaimed
from core.domain.model import Claim, Endpoint, Nic, Pool
from core.domain.validation.common_rules import ObjectReference
from core.errors import Refusal, Refused

SUBNETS_MAX: Final = 1_024


class PoolAvailability(NamedTuple):
    """A pool and its addresses that are neither excluded, reserved nor quarantined."""

    pool: Pool
    usable: AddressSet

    @property
    def is_closed(self) -> bool:
        return self.pool.disabled or self.pool.retiring

    def contains(self, address: Address) -> bool:
        """Whether the address is usable; the pool may be closed."""
        return self.pool.family == address.family and address.value in self.usable


class StoredState(NamedTuple):
    """The stored endpoint with the desired name, and the claims of the desired addresses."""

    endpoint: Endpoint | None
    claims: Mapping[Address, Claim]


_NO_ADDRESS: Final = ("", "", "")


def nic_with_addresses(
    interface: str, addresses: Iterable[tuple[Pool, int]], *, clean_gateway: bool = False
) -> Nic:
    """A NIC with at most one address of each family; the pool gives the prefix and gateway."""
    ipv4 = ipv6 = _NO_ADDRESS
    for pool, value in addresses:
        cidr = f"{format_address(pool.family, value)}/{_prefix_length(pool.subnet)}"
        if pool.family == 4:
            ipv4 = cidr, pool.name, pool.gateway
        else:
            ipv6 = cidr, pool.name, pool.gateway
    return Nic(interface, *ipv4, *ipv6, clean_gateway)


@functools.lru_cache(maxsize=SUBNETS_MAX)
def _prefix_length(subnet: str) -> int:
    return parse_cidr(subnet).prefix_length


def decide_assignment(
    desired: Endpoint, stored: StoredState, pools: Mapping[str, PoolAvailability]
) -> AddressesClaimed | None:
    """The claim of the missing addresses; None if no address is missing.

    The endpoint keeps NICs that ``desired`` does not list. Raises Refused.
    """
    endpoint = stored.endpoint
    if endpoint is not None and endpoint.holder != desired.holder:
        raise Refused((_other_pod_refusal(desired, endpoint),))
    nics = () if endpoint is None else endpoint.nics
    missing_nics = [nic for nic in desired.nics if not _is_stored(nic, nics)]
    refusals = [
        refusal
        for nic in missing_nics
        for refusal in _nic_refusals(desired, nic, nics, stored.claims, pools)
    ]
    refusals += _duplicate_refusals(desired, missing_nics)
    if refusals:
        raise Refused(tuple(refusals))
    if not missing_nics:
        return None
    after = desired._replace(nics=(*nics, *missing_nics))
    return AddressesClaimed(after, tuple(range(len(nics), len(after.nics))))


def _subject(endpoint: Endpoint) -> ObjectReference:
    return ObjectReference("SpiderEndpoint", endpoint.name, endpoint.namespace)


def _other_pod_refusal(desired: Endpoint, stored: Endpoint) -> Refusal:
    message = f"this endpoint belongs to {stored.holder}, not to {desired.holder}"
    remedy = f"use UID {stored.uid} for the same Pod; else release the endpoint's addresses first"
    return _subject(desired).refuse("AlreadyExists", "endpoint-in-use", "uid", message, remedy)


def _is_stored(nic: Nic, nics: tuple[Nic, ...]) -> bool:
    return any(
        stored.interface == nic.interface and stored.addresses() == nic.addresses()
        for stored in nics
    )


def _duplicate_refusals(desired: Endpoint, missing: Iterable[Nic]) -> Iterator[Refusal]:
    counts = Counter(address for nic in missing for address, _ in nic.addresses())
    for address, count in counts.items():
        if count > 1:
            message = f"{count} NICs request {address}"
            remedy = "assign another address to each NIC"
            yield _subject(desired).refuse("Invalid", "address-twice", "ip", message, remedy)


def _nic_refusals(
    desired: Endpoint,
    nic: Nic,
    stored: tuple[Nic, ...],
    claims: Mapping[Address, Claim],
    pools: Mapping[str, PoolAvailability],
) -> list[Refusal]:
    subject = _subject(desired)
    if any(other.interface == nic.interface for other in stored):
        message = f"{nic.interface} already has addresses that differ from the requested ones"
        remedy = "release the Pod's addresses first"
        return [subject.refuse("AlreadyExists", "nic-in-use", "interface", message, remedy)]
    refusals = []
    for text, name in nic.addresses():
        refusal = _address_refusal(subject, parse_address(text), pools.get(name), name)
        claim = claims.get(parse_address(text))
        if claim is not None:
            message = f"{text} is claimed by {claim.namespace}/{claim.pod} ({claim.holder})"
            remedy = f"release it first: orbctl release {text}"
            refusal = subject.refuse("AlreadyExists", "address-in-use", "ip", message, remedy)
        if refusal is not None:
            refusals.append(refusal)
    return refusals


def _address_refusal(
    subject: ObjectReference, address: Address, available: PoolAvailability | None, name: str
) -> Refusal | None:
    if available is None:
        message = f"cannot claim {address}: IPPool {name} does not exist"
        return subject.refuse("NotFound", "no-pool", "pool", message, "create the pool first")
    if available.is_closed:
        state = "retiring" if available.pool.retiring else "disabled"
        message, remedy = f"IPPool {name} is {state}", "assign an address of another pool"
        return subject.refuse("Forbidden", "pool-closed", "pool", message, remedy)
    if not available.contains(address):
        causes = "it is outside the pool, excluded, reserved or quarantined"
        message = f"{address} is not a usable address of IPPool {name}: {causes}"
        remedy = f"assign another address; `orbctl describe pool {name}` lists its ranges"
        return subject.refuse("Forbidden", "address-not-usable", "ip", message, remedy)
    return None

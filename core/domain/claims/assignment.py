"""Addresses that somebody names: an operator's hand, or the records of another IPAM.

An assignment says who is to hold which addresses of which pools. It bends no rule of an ordinary
claim: the addresses are usable ones of their pools, free, and all are claimed or none (I2, I4).
Affinity alone is not asked; whoever names an address has decided where it belongs.
Nothing here reads or writes; the answers that it needs from the store are arguments.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, NamedTuple

from core.domain.addresses.address_set import AddressSet
from core.domain.addresses.ip_address import Address, format_address, parse_address, parse_cidr
from core.domain.configuration.refusals import Refusal
from core.domain.events import AddressesClaimed
from core.domain.model import Claim, Endpoint, Nic, Pool
from core.domain.validation.shared import ObjectReference
from core.errors import Refused

SUBNETS_MAX: Final = 1_024
"""Subnets of pools whose prefix lengths are remembered; every ADD asks for one."""


class PoolOffer(NamedTuple):
    """A pool, and what may be handed out of it: not excluded, reserved or quarantined."""

    pool: Pool
    usable: AddressSet

    @property
    def is_closed(self) -> bool:
        """Whether it hands out nothing at all."""
        return self.pool.disabled or self.pool.retiring

    def contains(self, address: Address) -> bool:
        """Whether the address is one that it may hand out while it is open."""
        return self.pool.family == address.family and address.value in self.usable


class Present(NamedTuple):
    """What is there now: the endpoint of that name, and the claims on the wanted addresses."""

    endpoint: Endpoint | None
    claims: Mapping[Address, Claim]


def with_address(nic: Nic, pool: Pool, value: int) -> Nic:
    """The NIC with an address of this pool, its prefix length and gateway."""
    cidr = f"{format_address(pool.family, value)}/{_prefix_length(pool.subnet)}"
    return nic.holding(pool.family, cidr, pool.name, pool.gateway)


@functools.lru_cache(maxsize=SUBNETS_MAX)
def _prefix_length(subnet: str) -> int:
    return parse_cidr(subnet).prefix_length


def decide_assignment(
    desired: Endpoint, present: Present, offers: Mapping[str, PoolOffer]
) -> AddressesClaimed | None:
    """The claim that makes ``wanted`` true, or None when it is true already.

    NICs that the endpoint has and ``wanted`` does not name stay. Raises Refused.
    """
    endpoint = present.endpoint
    if endpoint is not None and endpoint.holder != desired.holder:
        raise Refused((_of_another_pod(desired, endpoint),))
    nics = () if endpoint is None else endpoint.nics
    missing = [nic for nic in desired.nics if not _is_there(nic, nics)]
    refusals = [
        refusal
        for nic in missing
        for refusal in _nic_refusals(desired, nic, nics, present.claims, offers)
    ]
    refusals += _wanted_twice(desired, missing)
    if refusals:
        raise Refused(tuple(refusals))
    if not missing:
        return None
    after = desired._replace(nics=(*nics, *missing))
    return AddressesClaimed(after, tuple(range(len(nics), len(after.nics))))


def _subject(endpoint: Endpoint) -> ObjectReference:
    return ObjectReference("SpiderEndpoint", endpoint.name, endpoint.namespace)


def _of_another_pod(desired: Endpoint, present: Endpoint) -> Refusal:
    message = f"these are addresses of Pod {present.uid}, not of {desired.uid}"
    remedy = "release them first, or name the Pod's UID"
    return _subject(desired).refuse("AlreadyExists", "endpoint-in-use", "uid", message, remedy)


def _is_there(nic: Nic, nics: tuple[Nic, ...]) -> bool:
    return any(
        present.interface == nic.interface and present.addresses() == nic.addresses()
        for present in nics
    )


def _wanted_twice(desired: Endpoint, missing: Iterable[Nic]) -> Iterator[Refusal]:
    """A claim is one NIC's."""
    counts = Counter(address for nic in missing for address, _ in nic.addresses())
    for address, count in counts.items():
        if count > 1:
            message = f"{address} is asked for by {count} NICs"
            remedy = "give each NIC an address of its own"
            yield _subject(desired).refuse("Invalid", "address-twice", "ip", message, remedy)


def _nic_refusals(
    desired: Endpoint,
    nic: Nic,
    present: tuple[Nic, ...],
    claims: Mapping[Address, Claim],
    offers: Mapping[str, PoolOffer],
) -> list[Refusal]:
    subject = _subject(desired)
    if any(other.interface == nic.interface for other in present):
        message = f"{nic.interface} has other addresses already"
        remedy = "release the Pod's addresses first"
        return [subject.refuse("AlreadyExists", "nic-in-use", "interface", message, remedy)]
    refusals = []
    for text, name in nic.addresses():
        refusal = _address_refusal(subject, parse_address(text), offers.get(name), name)
        claim = claims.get(parse_address(text))
        if claim is not None:
            message = f"{text} is held by {claim.namespace}/{claim.pod} ({claim.holder})"
            remedy = "release it there first"
            refusal = subject.refuse("AlreadyExists", "address-in-use", "ip", message, remedy)
        if refusal is not None:
            refusals.append(refusal)
    return refusals


def _address_refusal(
    subject: ObjectReference, address: Address, offer: PoolOffer | None, name: str
) -> Refusal | None:
    if offer is None:
        message = f"there is no IPPool {name} for {address}"
        return subject.refuse("NotFound", "no-pool", "pool", message, "apply the pool first")
    if offer.is_closed:
        what = "retiring" if offer.pool.retiring else "disabled"
        return subject.refuse("Forbidden", "pool-closed", "pool", f"IPPool {name} is {what}")
    if not offer.contains(address):
        message = f"{address} is not an address that IPPool {name} may hand out"
        remedy = "it is outside the pool, excluded, reserved or quarantined"
        return subject.refuse("Forbidden", "address-not-usable", "ip", message, remedy)
    return None

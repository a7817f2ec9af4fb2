"""The validation rules of UPDATE and DELETE.

See docs/reference/admission.md, "SpiderIPPool" and "SpiderReservedIP".

Claims are arguments; the caller has read all claims of the removed addresses.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from core.domain.addresses.address_set import AddressSet
from core.domain.addresses.ip_address import parse_address
from core.domain.model import Claim, Pool, Reservation, Subnet
from core.domain.validation.shared import ObjectReference
from core.errors import Refusal

REFUSAL_ADDRESSES_MAX: Final = 8
"""Addresses in use that a refusal lists; it always states their number."""

RETIRE_FIRST: Final = "retire the pool first and wait until it is empty, or `orbctl delete --drain`"


def immutable(subject: ObjectReference, field: str, value: object) -> Refusal:
    """The refusal of a change of an immutable field, with Spiderpool's text."""
    message = f"is not changeable; it is {value}"
    remedy = "create an object of another name"
    return subject.refuse("Forbidden", "immutable", field, message, remedy)


def immutable_network_rule(
    subject: ObjectReference, existing: Pool | Subnet, desired: Pool | Subnet
) -> Iterator[Refusal]:
    """IP version and CIDR of a pool or subnet are immutable."""
    if desired.family != existing.family:
        yield immutable(subject, "spec.ipVersion", existing.family)
    elif desired.subnet != existing.subnet:
        yield immutable(subject, "spec.subnet", existing.subnet)


def immutable_reservation_rule(
    subject: ObjectReference, existing: Reservation, reservation: Reservation
) -> Iterator[Refusal]:
    """The IP version is immutable."""
    if reservation.family != existing.family:
        yield immutable(subject, "spec.ipVersion", existing.family)


def retiring_rule(subject: ObjectReference, existing: Pool, pool: Pool) -> Iterator[Refusal]:
    """Only labels and annotations of a retiring pool may change."""
    if existing._replace(labels=pool.labels, annotations=pool.annotations) != pool:
        message = "the pool is being retired: only its labels and annotations may change"
        remedy = "create a pool of another name"
        yield subject.refuse("Forbidden", "retiring", "spec", message, remedy)


def addresses_in_use_rule(
    subject: ObjectReference, lost: AddressSet | None, claimed: Mapping[str, Claim]
) -> Iterator[Refusal]:
    """A claimed address stays in its pool (compared parsed, not as text)."""
    held = _held(lost, claimed)
    if held:
        address, claim = held[0]
        message = f"remove an IP address {address} that is being used by Pod {_pod(claim)}"
        remedy = "release these addresses first, or keep them in ips"
        message += _others(held)
        yield subject.refuse("Forbidden", "address-in-use", "spec.ips", message, remedy)


def empty_pool_rule(
    subject: ObjectReference, addresses: AddressSet | None, claimed: Mapping[str, Claim]
) -> Iterator[Refusal]:
    """A pool is deleted only when nothing is claimed in it."""
    held = _held(addresses, claimed)
    if held:
        address, claim = held[0]
        message = f"the IP address {address} is being used by Pod {_pod(claim)}{_others(held)}"
        yield subject.refuse("Forbidden", "pool-in-use", "", message, RETIRE_FIRST)


def _held(addresses: AddressSet | None, claimed: Mapping[str, Claim]) -> list[tuple[str, Claim]]:
    """The claims inside, in the order of their addresses."""
    if addresses is None:
        return []
    inside = []
    for text, claim in claimed.items():
        family, value = parse_address(text)
        if family == addresses.family and value in addresses:
            inside.append((value, text, claim))
    return [(text, claim) for _, text, claim in sorted(inside)]


def _others(held: list[tuple[str, Claim]]) -> str:
    """The text after the first address: the number of further ones, and some of them."""
    more = held[1:]
    if not more:
        return ""
    shown = more[: REFUSAL_ADDRESSES_MAX - 1]
    listed = ", ".join(f"{address} (Pod {_pod(claim)})" for address, claim in shown)
    return f"; {len(more)} more in use: {listed}{', ...' if len(shown) < len(more) else ''}"


def _pod(claim: Claim) -> str:
    return f"{claim.namespace}/{claim.pod}"

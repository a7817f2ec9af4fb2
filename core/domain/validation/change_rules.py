"""The validation rules of UPDATE and DELETE (docs/reference/admission.md).

The caller passes the claims of all addresses that the command removes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from core.domain.addresses.address_set import AddressSet
from core.domain.addresses.ip_address import parse_address
from core.domain.model import Claim, Pool, Reservation, Subnet
from core.domain.validation.common_rules import ObjectReference
from core.errors import Refusal

REFUSAL_ADDRESSES_MAX: Final = 8

RETIRE_FIRST: Final = (
    "retire the pool first and wait until it is empty, or run `orbctl delete --drain`"
)


def immutable(subject: ObjectReference, field: str, value: object) -> Refusal:
    """The refusal to change an immutable field; Spiderpool's text."""
    message = f"is not changeable; it is {value}"
    remedy = "create an object of another name"
    return subject.refuse("Forbidden", "immutable", field, message, remedy)


def immutable_network_rule(
    subject: ObjectReference, existing: Pool | Subnet, desired: Pool | Subnet
) -> Iterator[Refusal]:
    """IP version and CIDR are immutable."""
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
    """Only labels and annotations may change."""
    if existing._replace(labels=pool.labels, annotations=pool.annotations) != pool:
        message = "the pool is being retired: only its labels and annotations may change"
        remedy = "create a pool of another name"
        yield subject.refuse("Forbidden", "retiring", "spec", message, remedy)


def addresses_in_use_rule(
    subject: ObjectReference, removed: AddressSet | None, claimed: Mapping[str, Claim]
) -> Iterator[Refusal]:
    """A claimed address must stay in its pool; Spiderpool's text."""
    claims = _claims_in(removed, claimed)
    if claims:
        address, claim = claims[0]
        message = f"remove an IP address {address} that is being used by Pod {_pod(claim)}"
        remedy = "release these addresses first, or keep them in ips"
        message += _further_claims(claims)
        yield subject.refuse("Forbidden", "address-in-use", "spec.ips", message, remedy)


def empty_pool_rule(
    subject: ObjectReference, addresses: AddressSet | None, claimed: Mapping[str, Claim]
) -> Iterator[Refusal]:
    """A pool with claimed addresses must not be deleted."""
    claims = _claims_in(addresses, claimed)
    if claims:
        address, claim = claims[0]
        message = f"the IP address {address} is being used by Pod {_pod(claim)}"
        message += _further_claims(claims)
        yield subject.refuse(
            "Forbidden", "pool-in-use", field="", message=message, remedy=RETIRE_FIRST
        )


def _claims_in(
    addresses: AddressSet | None, claimed: Mapping[str, Claim]
) -> list[tuple[str, Claim]]:
    if addresses is None:
        return []
    inside = []
    for text, claim in claimed.items():
        family, value = parse_address(text)
        if family == addresses.family and value in addresses:
            inside.append((value, text, claim))
    return [(text, claim) for _, text, claim in sorted(inside)]


def _further_claims(claims: list[tuple[str, Claim]]) -> str:
    further = claims[1:]
    if not further:
        return ""
    listed = further[: REFUSAL_ADDRESSES_MAX - 1]
    text = ", ".join(f"{address} (Pod {_pod(claim)})" for address, claim in listed)
    ellipsis = ", ..." if len(listed) < len(further) else ""
    return f"; {len(further)} more in use: {text}{ellipsis}"


def _pod(claim: Claim) -> str:
    return f"{claim.namespace}/{claim.pod}"

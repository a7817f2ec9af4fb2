"""Normalization: the mutating webhook's changes before validation (docs/reference/admission.md).

Validation reports malformed fields; normalization leaves them as they are.
"""

from __future__ import annotations

from typing import Final, TypeVar

from core.domain.addresses.address_set import AddressSet
from core.domain.addresses.ip_address import AddressSyntaxError, Family
from core.domain.model import Pool, Reservation, Subnet

N = TypeVar("N", Pool, Subnet)

CIDR_LABEL: Final = "ipam.spidernet.io/ippool-cidr"

SUBNET_CIDR_LABEL: Final = "ipam.spidernet.io/subnet-cidr"

_CIDR_LABELS: Final = {Pool: CIDR_LABEL, Subnet: SUBNET_CIDR_LABEL}
_CIDR_LABEL_CHARS: Final = str.maketrans(".:/", "---")


def normalise_network(network: N) -> N:
    """Merge the lists of addresses and set the label of the CIDR."""
    return network._replace(
        ips=merge_items(network.ips, network.family),
        exclude_ips=merge_items(network.exclude_ips, network.family),
        labels={**network.labels, _CIDR_LABELS[type(network)]: cidr_label(network.subnet)},
    )


def cidr_label(subnet: str) -> str:
    """The CIDR as a label value (docs/reference/annotations.md, "Labels of pools and subnets")."""
    return subnet.translate(_CIDR_LABEL_CHARS)


def normalise_reservation(reservation: Reservation) -> Reservation:
    """Merge the list of addresses."""
    return reservation._replace(ips=merge_items(reservation.ips, reservation.family))


def merge_items(items: tuple[str, ...], family: Family) -> tuple[str, ...]:
    """Sort the items, remove duplicates and join ranges.

    A list with a single item or with a malformed item stays as it is.
    """
    if len(items) < 2:
        return items
    try:
        return tuple(AddressSet.from_items(items, family).to_items())
    except AddressSyntaxError:
        return items

"""The rules of a reservation: docs/reference/admission.md, "SpiderReservedIP".

An empty list and overlaps are allowed; claimed addresses stay claimed.
"""

from __future__ import annotations

from collections.abc import Iterator

from core.domain.addresses.ip_address import AddressSyntaxError, SyntaxFault, parse_range
from core.domain.configuration.refusals import Refusal
from core.domain.model import Reservation
from core.domain.validation.shared import ObjectReference


def items_rule(subject: ObjectReference, reservation: Reservation) -> Iterator[Refusal]:
    """Every item of ``ips`` is an address or a range of the family; all bad ones are reported."""
    for index, text in enumerate(reservation.ips):
        try:
            family = parse_range(text).family
        except AddressSyntaxError as error:
            yield subject.refuse("Invalid", "item-syntax", f"spec.ips[{index}]", str(error))
            continue
        if family != reservation.family:
            message = f"{text} {SyntaxFault.WRONG_FAMILY}"
            yield subject.refuse("Invalid", "item-family", f"spec.ips[{index}]", message)

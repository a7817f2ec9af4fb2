"""Compares the claims of the log with the addresses in Spiderpool's objects, both ways. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from core.domain.claims.takeover import TakeOver
from core.domain.evolution import RevisedClaim

NO_HOLDER = "-"


class AddressDifference(NamedTuple):
    """One address; ``-`` where it is not in use."""

    address: str
    spiderpool: str
    orbweaver: str


def differences(objects: TakeOver, claims: Mapping[str, RevisedClaim]) -> list[AddressDifference]:
    """Differences by address: pool and holder in the objects and in the log."""
    theirs = {
        address: f"{pool}, {endpoint.holder}"
        for endpoint in objects.endpoints
        for address, pool in endpoint.addresses()
    }
    ours = {address: f"{one.claim.pool}, {one.claim.holder}" for address, one in claims.items()}
    return [
        AddressDifference(address, theirs.get(address, NO_HOLDER), ours.get(address, NO_HOLDER))
        for address in sorted(theirs.keys() | ours.keys())
        if theirs.get(address) != ours.get(address)
    ]

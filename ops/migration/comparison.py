"""Compares the claims of the log with the addresses in Spiderpool's objects. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from core.domain.claims.takeover import TakeoverPlan
from core.domain.evolution import RevisedClaim

NO_HOLDER = "-"


class AddressDifference(NamedTuple):
    """One address, with "POOL, HOLDER" in each system; "-" where it is unused."""

    address: str
    spiderpool: str
    orbweaver: str


def differences(
    objects: TakeoverPlan, claims: Mapping[str, RevisedClaim]
) -> list[AddressDifference]:
    """The addresses whose pool or holder differs."""
    theirs = {
        address: f"{pool}, {endpoint.holder}"
        for endpoint in objects.endpoints
        for address, pool in endpoint.addresses()
    }
    ours = {
        address: f"{revised.claim.pool}, {revised.claim.holder}"
        for address, revised in claims.items()
    }
    return [
        AddressDifference(address, theirs.get(address, NO_HOLDER), ours.get(address, NO_HOLDER))
        for address in sorted(theirs.keys() | ours.keys())
        if theirs.get(address) != ours.get(address)
    ]

"""Find the addresses of a fixed endpoint that the next Pod gets back. Pure.

See docs/reference/fixed-address-rules.md, "Retrieval". An address without a claim is claimed again
if possible. Otherwise, the NIC gets new addresses.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from core.domain.addresses.ip_address import Address, parse_address
from core.domain.claims.assignment import PoolAvailability
from core.domain.model import Claim, Endpoint, Nic


class Retrieval(NamedTuple):
    """Indexes of NICs with a missing claim.

    ``claimable``: the missing claims can be made again. ``lost``: the NICs need new addresses.
    """

    claimable: tuple[int, ...] = ()
    lost: frozenset[int] = frozenset()


def retrieve(
    endpoint: Endpoint, claims: Mapping[Address, Claim], pools: Mapping[str, PoolAvailability]
) -> Retrieval:
    """Find the NICs with a missing claim.

    ``claims``: all claims of the addresses, by any holder. ``pools``: the existing pools of the
    endpoint; a disabled or retiring pool is closed.
    """
    claimable: list[int] = []
    lost: list[int] = []
    for index, nic in enumerate(endpoint.nics):
        missing = missing_claims(nic, endpoint, claims)
        if not missing:
            continue
        if all(
            address not in claims and _is_available(address, pools.get(pool))
            for address, pool in missing
        ):
            claimable.append(index)
        else:
            lost.append(index)
    return Retrieval(tuple(claimable), frozenset(lost))


def missing_claims(
    nic: Nic, endpoint: Endpoint, claims: Mapping[Address, Claim]
) -> tuple[tuple[Address, str], ...]:
    """The (address, pool) pairs that the endpoint's holder has not claimed."""
    pairs = ((parse_address(text), pool) for text, pool in nic.addresses())
    return tuple(
        (address, pool)
        for address, pool in pairs
        if not _is_own_claim(endpoint, claims.get(address), pool)
    )


def _is_available(address: Address, available: PoolAvailability | None) -> bool:
    return available is not None and not available.is_closed and available.contains(address)


def _is_own_claim(endpoint: Endpoint, claim: Claim | None, pool: str) -> bool:
    return (
        claim is not None
        and claim.pool == pool
        and claim.holder == endpoint.holder
        and (claim.namespace, claim.pod) == endpoint.key
    )

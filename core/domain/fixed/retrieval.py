"""Which addresses of a fixed endpoint the next Pod of its holder gets back.

See docs/reference/fixed-address-rules.md, "Retrieval".

The replica or VM gets back what its endpoint lists. Affinity, node and switches of the pools are
not checked again, because the claims prove that the addresses belong to it. An address without a
claim belongs to no endpoint: it is claimed again if its pool may hand it out; if not, the NIC gets
others (I2). Nothing here reads or writes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from core.domain.addresses.ip_address import Address, parse_address
from core.domain.claims.assignment import PoolAvailability
from core.domain.model import Claim, Endpoint, Nic


class Retrieval(NamedTuple):
    """Indexes of NICs: those to claim again for, and those that get other addresses."""

    regain: tuple[int, ...] = ()
    lost: frozenset[int] = frozenset()


def retrieve(
    endpoint: Endpoint, claims: Mapping[Address, Claim], pools: Mapping[str, PoolAvailability]
) -> Retrieval:
    """Sort the endpoint's NICs that miss a claim.

    ``claims``: those of the endpoint's addresses, by any holder; ``pools``: the pools that it
    names, as far as they exist.
    """
    regain: list[int] = []
    lost: list[int] = []
    for index, nic in enumerate(endpoint.nics):
        missing = missing_of(nic, endpoint, claims)
        if not missing:
            continue
        free = all(
            address not in claims and _is_available(address, pools.get(pool))
            for address, pool in missing
        )
        (regain if free else lost).append(index)
    return Retrieval(tuple(regain), frozenset(lost))


def missing_of(
    nic: Nic, endpoint: Endpoint, claims: Mapping[Address, Claim]
) -> tuple[tuple[Address, str], ...]:
    """The (address, pool) pairs of the NIC of which the endpoint's holder has no claim."""
    pairs = ((parse_address(text), pool) for text, pool in nic.addresses())
    return tuple(
        (address, pool)
        for address, pool in pairs
        if not _is_of(endpoint, claims.get(address), pool)
    )


def _is_available(address: Address, available: PoolAvailability | None) -> bool:
    return available is not None and not available.is_closed and available.contains(address)


def _is_of(endpoint: Endpoint, claim: Claim | None, pool: str) -> bool:
    return claim is not None and claim[:4] == (
        pool,
        endpoint.holder,
        endpoint.namespace,
        endpoint.name,
    )

"""What a stored endpoint is worth to the next Pod of its holder.

See docs/reference/fixed-address-rules.md, "Retrieval".

The replica or VM gets back what its endpoint shows, without asking affinity, node or switches of
the pools again, because the claims say that the addresses are its own. An address without a claim
is nobody's: it is claimed again if its pool may hand it out, and if not, the NIC needs others (I2).
Nothing here reads or writes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from core.domain.addresses.ip_address import Address, parse_address
from core.domain.claims.assignment import PoolOffer
from core.domain.model import Claim, Endpoint, Nic


class Retrieval(NamedTuple):
    """Indexes of the endpoint's NICs: whose missing claims are to be made again, and the lost."""

    regain: tuple[int, ...] = ()
    lost: frozenset[int] = frozenset()


def retrieve(
    endpoint: Endpoint, claims: Mapping[str, Claim], offers: Mapping[str, PoolOffer]
) -> Retrieval:
    """What becomes of each NIC.

    ``claims``: those on the endpoint's addresses, whosever; ``offers``: the pools it names, as far
    as they exist.
    """
    regain: list[int] = []
    lost: list[int] = []
    for index, nic in enumerate(endpoint.nics):
        missing = missing_of(nic, endpoint, claims)
        if not missing:
            continue
        free = all(
            text not in claims and _is_offered(parse_address(text), offers.get(pool))
            for text, pool in missing
        )
        (regain if free else lost).append(index)
    return Retrieval(tuple(regain), frozenset(lost))


def missing_of(
    nic: Nic, endpoint: Endpoint, claims: Mapping[str, Claim]
) -> tuple[tuple[str, str], ...]:
    """The (address, pool) pairs that the NIC shows and the endpoint's holder does not hold."""
    return tuple(
        (address, pool)
        for address, pool in nic.addresses()
        if not _is_own(claims.get(address), endpoint, pool)
    )


def _is_offered(address: Address, offer: PoolOffer | None) -> bool:
    return offer is not None and not offer.is_closed and offer.contains(address)


def _is_own(claim: Claim | None, endpoint: Endpoint, pool: str) -> bool:
    return claim is not None and claim[:4] == (
        pool,
        endpoint.holder,
        endpoint.namespace,
        endpoint.name,
    )

"""Check that stored values are possible: addresses can be parsed, counts are not negative.

The rules of configuration (overlaps, sizes, names) are in ``core.domain.validation``. Each function
raises ValueError (or its subclass AddressSyntaxError) for an impossible value.
"""

from __future__ import annotations

from core.domain.addresses.ip_address import ADDRESS_BITS, Family, parse_address, parse_cidr
from core.domain.configuration.configuration_state import pool_addresses, reserved_addresses
from core.domain.model import Endpoint, Pool, Quarantine, Reservation, Subnet
from core.domain.sriov.model import NodeGuids, is_guid


def check_pool(pool: Pool | Subnet) -> None:
    """Check the subnet, the lists, the gateway and the routes of a pool or subnet."""
    if pool.subnet:
        _check_family(parse_cidr(pool.subnet).family, pool.family, pool.subnet)
    pool_addresses(pool)
    if pool.gateway:
        _check_family(parse_address(pool.gateway).family, pool.family, pool.gateway)
    for route in pool.routes or ():
        parse_cidr(route.dst)
        parse_address(route.gw)


def check_reservation(reservation: Reservation) -> None:
    """Check the addresses of a reservation."""
    reserved_addresses({reservation.name: reservation}, reservation.family)


def check_quarantine(quarantine: Quarantine) -> None:
    """Check the address and family of a quarantine."""
    family = parse_address(quarantine.address).family
    _check_family(family, quarantine.family, quarantine.address)


def check_endpoint(endpoint: Endpoint) -> None:
    """Check the addresses of the NICs of an endpoint."""
    for nic in endpoint.nics:
        if nic.ipv4:
            _check_family(_family_of(nic.ipv4), 4, nic.ipv4)
        if nic.ipv6:
            _check_family(_family_of(nic.ipv6), 6, nic.ipv6)


def check_guids(node: NodeGuids) -> None:
    """Check the syntax of a node's GUIDs."""
    for guid in node.guids:
        if not is_guid(guid.guid):
            raise ValueError(f"{guid.guid[:64]!r} is not a GUID")


def check_counts(*counts: int) -> None:
    """Check that no count is negative."""
    for count in counts:
        if count < 0:
            raise ValueError(f"{count} is negative")


def _family_of(cidr: str) -> Family:
    """The family of an address with prefix length; fast, because a scan calls it for every NIC."""
    address, _, length = cidr.partition("/")
    family = parse_address(address).family
    if length and not 0 <= int(length) <= ADDRESS_BITS[family]:
        raise ValueError(f"{cidr} has an invalid prefix length")
    return family


def _check_family(family: Family, expected: Family, text: str) -> None:
    if family != expected:
        raise ValueError(f"{text} is not an IPv{expected} address")

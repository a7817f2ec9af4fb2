"""The configuration that decisions use, and the address sets of pools.

Address sets are cached by the content of the pool's lists, not by the pool's name: a changed pool
never gets an old set.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache
from typing import Final, NamedTuple

from core.domain.addresses.address_set import AddressSet
from core.domain.addresses.ip_address import AddressSyntaxError, Family
from core.domain.events import RecordDefined
from core.domain.evolution import Ledger
from core.domain.model import Pool, Quarantine, Reservation, Subnet

ADDRESS_SETS_MAX: Final = 16_384


class FeatureSwitches(NamedTuple):
    """The cluster's settings enableIPv4, enableIPv6, enableSpiderSubnet."""

    ipv4: bool = True
    ipv6: bool = True
    subnets: bool = True


class Configuration(NamedTuple):
    """The state without claims.

    The key of a record is (kind, namespace, name); the key of a quarantine is the address; the key
    of another object is its name.
    While ``subnets_enabled`` is False, pools belong to no subnet.
    """

    pools: Mapping[str, Pool]
    reservations: Mapping[str, Reservation]
    quarantine: Mapping[str, Quarantine]
    records: Mapping[tuple[str, str, str], RecordDefined]
    ipv4_enabled: bool = True
    ipv6_enabled: bool = True
    subnets: Mapping[str, Subnet] = {}
    subnets_enabled: bool = True

    @classmethod
    def of(cls, ledger: Ledger, switches: FeatureSwitches = FeatureSwitches()) -> Configuration:
        """A view: the configuration changes with the ledger."""
        return cls(
            ledger.pools,
            ledger.reservations,
            ledger.quarantine,
            ledger.records,
            ipv4_enabled=switches.ipv4,
            ipv6_enabled=switches.ipv6,
            subnets=ledger.subnets,
            subnets_enabled=switches.subnets,
        )

    @property
    def owning_subnets(self) -> Mapping[str, Subnet]:
        """The subnets that pools may belong to; empty while ``subnets_enabled`` is False."""
        return self.subnets if self.subnets_enabled else {}

    def enabled(self, family: Family) -> bool:
        return self.ipv4_enabled if family == 4 else self.ipv6_enabled


def pool_addresses(pool: Pool | Subnet) -> AddressSet:
    """``ips`` without ``excludeIPs``. Raises AddressSyntaxError."""
    return _difference(pool.family, pool.ips, pool.exclude_ips)


def readable_addresses(pool: Pool | Subnet) -> AddressSet:
    """``pool_addresses`` of a stored object, without the items that cannot be parsed."""
    try:
        return pool_addresses(pool)
    except AddressSyntaxError:
        ips = _readable(pool.family, pool.ips)
        return ips - _readable(pool.family, pool.exclude_ips)


def _readable(family: Family, items: tuple[str, ...]) -> AddressSet:
    readable_set = AddressSet(family)
    for item in items:
        with suppress(AddressSyntaxError):
            readable_set |= AddressSet.from_items((item,), family)
    return readable_set


def reserved_addresses(reservations: Mapping[str, Reservation], family: Family) -> AddressSet:
    """All addresses of one family in reservations. Raises AddressSyntaxError."""
    return _union(family, _reserved_lists(reservations, family))


def unreserved_addresses(pool: Pool, reservations: Mapping[str, Reservation]) -> AddressSet:
    """The pool's addresses that are not reserved, even if claimed or quarantined.

    Raises AddressSyntaxError.
    """
    reserved = _reserved_lists(reservations, pool.family)
    return _without_reserved(pool.family, pool.ips, pool.exclude_ips, reserved)


def claimable_addresses(
    pool: Pool, reservations: Mapping[str, Reservation], quarantine: Mapping[str, Quarantine]
) -> AddressSet:
    """The pool's addresses that are not reserved and not quarantined, even if claimed."""
    quarantined_items = [
        entry.address for entry in quarantine.values() if entry.family == pool.family
    ]
    return unreserved_addresses(pool, reservations) - AddressSet.from_items(
        quarantined_items, pool.family
    )


def _reserved_lists(
    reservations: Mapping[str, Reservation], family: Family
) -> tuple[tuple[str, ...], ...]:
    return tuple(
        reservation.ips for reservation in reservations.values() if reservation.family == family
    )


@lru_cache(maxsize=ADDRESS_SETS_MAX)
def _difference(family: Family, ips: tuple[str, ...], exclude_ips: tuple[str, ...]) -> AddressSet:
    return AddressSet.from_items(ips, family) - AddressSet.from_items(exclude_ips, family)


@lru_cache(maxsize=ADDRESS_SETS_MAX)
def _union(family: Family, lists: tuple[tuple[str, ...], ...]) -> AddressSet:
    return AddressSet.from_items((item for items in lists for item in items), family)


@lru_cache(maxsize=ADDRESS_SETS_MAX)
def _without_reserved(
    family: Family,
    ips: tuple[str, ...],
    exclude_ips: tuple[str, ...],
    reserved: tuple[tuple[str, ...], ...],
) -> AddressSet:
    return _difference(family, ips, exclude_ips) - _union(family, reserved)

"""The addresses of a pool: ips minus excludeIPs. Reserved addresses are not usable."""

from __future__ import annotations

import pytest

from core.domain.addresses.ip_address import V4, V6, AddressSyntaxError
from core.domain.configuration.configuration_state import (
    Configuration,
    pool_addresses,
    reserved_addresses,
    unreserved_addresses,
)
from core.domain.model import Pool, Reservation

POOL = Pool("blue", V4, "10.7.0.0/16", ("10.7.0.1-10.7.0.9",), exclude_ips=("10.7.0.3", "10.8.0.1"))
RESERVATIONS = {
    "low": Reservation("low", V4, ("10.7.0.1-10.7.0.4", "10.9.0.1")),
    "six": Reservation("six", V6, ("::-ffff::",)),
    "high": Reservation("high", V4, ("10.7.0.9",)),
}


def test_excluded_addresses_do_not_belong_to_the_pool() -> None:
    assert pool_addresses(POOL).to_items() == ["10.7.0.1-10.7.0.2", "10.7.0.4-10.7.0.9"]


def test_reserved_addresses_of_the_family_are_not_usable() -> None:
    assert unreserved_addresses(POOL, RESERVATIONS).to_items() == ["10.7.0.5-10.7.0.8"]
    assert unreserved_addresses(POOL, {}) == pool_addresses(POOL)


def test_the_addresses_of_all_reservations_of_a_family_are_reserved() -> None:
    assert reserved_addresses(RESERVATIONS, V4).to_items() == [
        "10.7.0.1-10.7.0.4",
        "10.7.0.9",
        "10.9.0.1",
    ]
    assert reserved_addresses(RESERVATIONS, V6).size == (0xFFFF << 112) + 1


def test_a_changed_pool_or_reservation_does_not_get_an_outdated_cached_set() -> None:
    before = unreserved_addresses(POOL, RESERVATIONS)
    changed = POOL._replace(exclude_ips=())
    without_high = {
        name: reservation for name, reservation in RESERVATIONS.items() if name != "high"
    }

    assert pool_addresses(changed).to_items() == ["10.7.0.1-10.7.0.9"]
    assert unreserved_addresses(POOL, without_high).to_items() == ["10.7.0.5-10.7.0.9"]
    assert unreserved_addresses(POOL, RESERVATIONS) == before


def test_pools_with_equal_lists_share_one_cached_set() -> None:
    renamed = POOL._replace(name="red", labels={"a": "b"})

    assert pool_addresses(renamed) is pool_addresses(POOL)


def test_an_invalid_list_raises_an_error() -> None:
    with pytest.raises(AddressSyntaxError):
        pool_addresses(POOL._replace(ips=("10.7.0.9-10.7.0.1",)))


def test_each_family_is_enabled_separately() -> None:
    configuration = Configuration({}, {}, {}, {}, ipv6_enabled=False)

    assert (configuration.enabled(V4), configuration.enabled(V6)) == (True, False)

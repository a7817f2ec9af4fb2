"""Requests of one process never claim the same address at the same time."""

from __future__ import annotations

import asyncio

import pytest

from core.allocation import claims_in_flight
from core.allocation.claims_in_flight import AddressesBeingClaimed
from core.domain.addresses.ip_address import Address

ADDRESS_7 = Address(4, value=7)


async def test_an_address_counts_as_being_claimed_from_add_to_remove() -> None:
    being_claimed = AddressesBeingClaimed()
    values = being_claimed.values[4]
    being_claimed.add(ADDRESS_7)
    assert set(values) == {7}

    being_claimed.remove({ADDRESS_7})

    assert not values
    assert not being_claimed.values[6]


async def test_a_request_waits_for_the_end_of_another_request(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(claims_in_flight, "WAIT_S_MAX", 3600.0)
    being_claimed = AddressesBeingClaimed()
    being_claimed.add(ADDRESS_7)
    wait = asyncio.create_task(being_claimed.next_end())
    await asyncio.sleep(0)
    assert not wait.done()

    being_claimed.remove({ADDRESS_7})

    await wait
    assert wait.done()


async def test_the_wait_for_another_request_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims_in_flight, "WAIT_S_MAX", 0.0)
    being_claimed = AddressesBeingClaimed()
    being_claimed.add(ADDRESS_7)

    await being_claimed.next_end()

    assert being_claimed.values[4], "the other request must still be running"

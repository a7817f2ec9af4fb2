"""Requests of one process never claim the same address, and wait for each other."""

from __future__ import annotations

import asyncio

import pytest

from core.allocation import claims_in_flight
from core.allocation.claims_in_flight import AddressesBeingClaimed
from core.domain.addresses.ip_address import Address

SEVEN = Address(4, 7)


async def test_an_address_is_being_claimed_until_its_try_is_over() -> None:
    all_tries = AddressesBeingClaimed()
    values = all_tries.values[4]
    all_tries.add(SEVEN)
    assert set(values) == {7}

    all_tries.remove({SEVEN})

    assert not values
    assert not all_tries.values[6]


async def test_a_request_waits_for_the_end_of_another_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(claims_in_flight, "WAIT_S_MAX", 3600.0)
    all_tries = AddressesBeingClaimed()
    all_tries.add(SEVEN)
    waiting = asyncio.create_task(all_tries.next_end())
    await asyncio.sleep(0)
    assert not waiting.done()

    all_tries.remove({SEVEN})

    await waiting
    assert waiting.done()


async def test_it_waits_for_a_bounded_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims_in_flight, "WAIT_S_MAX", 0.0)
    all_tries = AddressesBeingClaimed()
    all_tries.add(SEVEN)

    await all_tries.next_end()

    assert all_tries.values[4], "the other one is not over"

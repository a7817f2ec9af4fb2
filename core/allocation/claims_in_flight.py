"""Addresses that requests of this process are claiming now.

Two requests of one process never try the same address. If no further address is free, a request
waits until another request ends.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from contextlib import suppress
from typing import Final

from core.domain.addresses.ip_address import Address, Family

WAIT_S_MAX: Final = 0.25


class AddressesBeingClaimed:
    """The addresses of all transactions in flight."""

    def __init__(self) -> None:
        self.values: dict[Family, set[int]] = {4: set(), 6: set()}
        self._end: asyncio.Event | None = None

    def add(self, address: Address) -> None:
        """Add an address that a transaction is to claim."""
        self.values[address.family].add(address.value)

    def remove(self, addresses: Collection[Address]) -> None:
        """Remove the addresses of a transaction that has ended."""
        for family, value in addresses:
            self.values[family].discard(value)
        if self._end is not None:
            self._end.set()
            self._end = None

    async def next_end(self) -> None:
        """Wait until a transaction ends, at most ``WAIT_S_MAX``."""
        if self._end is None:
            self._end = asyncio.Event()
        with suppress(TimeoutError):
            async with asyncio.timeout(WAIT_S_MAX):
                await self._end.wait()

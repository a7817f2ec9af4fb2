"""Addresses that requests of this process are claiming now.

Two requests of one process never try the same address; a request that finds no other address waits
until one of them ends. Nothing here decides or reads.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from contextlib import suppress
from typing import Final

from core.domain.addresses.ip_address import Address, Family

END_S_MAX: Final = 0.25
"""How long a request waits for another one to end before it reads again."""


class AddressesBeingClaimed:
    """The addresses of all tries in flight."""

    def __init__(self) -> None:
        self.values: dict[Family, set[int]] = {4: set(), 6: set()}
        """The addresses of each family; the sets change as tries begin and end."""
        self._end: asyncio.Event | None = None

    def add(self, address: Address) -> None:
        """Add the address that a try has picked."""
        self.values[address.family].add(address.value)

    def remove(self, addresses: Collection[Address]) -> None:
        """Remove the addresses of a try that has ended."""
        for family, value in addresses:
            self.values[family].discard(value)
        if self._end is not None:
            self._end.set()
            self._end = None

    async def next_end(self) -> None:
        """Wait until a try ends, at most ``END_S_MAX``."""
        if self._end is None:
            self._end = asyncio.Event()
        with suppress(TimeoutError):
            async with asyncio.timeout(END_S_MAX):
                await self._end.wait()

"""Addresses that requests of this process are claiming at this moment.

No two requests of one process try the same address, and one that only others stand in the way of
waits for one of them to end. It decides nothing and reads nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from contextlib import suppress
from typing import Final

from core.domain.addresses.ip_address import Address, Family

END_S_MAX: Final = 0.25
"""How long a request waits for the end of another one before it reads again."""


class AddressesBeingClaimed:
    """The addresses of all tries under way."""

    def __init__(self) -> None:
        self._values: dict[Family, set[int]] = {4: set(), 6: set()}
        self._end: asyncio.Event | None = None

    def values(self, family: Family) -> Collection[int]:
        """Those of one family; the answer changes with what is under way."""
        return self._values[family]

    def add(self, address: Address) -> None:
        """A try has chosen this address."""
        self._values[address.family].add(address.value)

    def remove(self, addresses: Collection[Address]) -> None:
        """The try that had chosen these is over."""
        for family, value in addresses:
            self._values[family].discard(value)
        if self._end is not None:
            self._end.set()
            self._end = None

    async def next_end(self) -> None:
        """Wait until a try is over, for a bounded time."""
        if self._end is None:
            self._end = asyncio.Event()
        with suppress(TimeoutError):
            async with asyncio.timeout(END_S_MAX):
                await self._end.wait()

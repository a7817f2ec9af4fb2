"""Chooses an address in a pool without reading all claims of the pool. Deterministic.

    spread        the default: a hash of the holder chooses where the search begins, so that writers
                  on many nodes rarely choose the same address
    sequential    the lowest free address, as in Spiderpool

A search knows only the claims that reads and failed transactions have returned.

A window is a tried address and the usable addresses after it. A transaction that fails reads the
claims and cool-down marks in the window.
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from hashlib import blake2b
from typing import Literal

from core.domain.addresses.address_set import AddressSet

AddressOrder = Literal["spread", "sequential"]

WINDOW_ADDRESSES = 32

SCARCE_SHARE = 1 / 8
"""If at most this share of a pool is free, an address chosen without a read is usually in use."""


def is_scarce(free: int, size: int) -> bool:
    """Whether at most ``SCARCE_SHARE`` of ``size`` addresses is free."""
    return free <= size * SCARCE_SHARE


def spread_index(seed: str, size: int) -> int:
    """An index in [0, size) that depends only on the seed."""
    digest = blake2b(seed.encode(), digest_size=16).digest()
    return int.from_bytes(digest, "big") % size


class Search:
    """One request's search for one address in one pool."""

    __slots__ = (
        "_first",
        "_last_read",
        "_taken",
        "has_preferred_address",
        "order",
        "seed",
        "size",
        "start",
        "usable",
    )

    def __init__(self, usable: AddressSet, order: AddressOrder, seed: str) -> None:
        self.usable = usable
        self.order = order
        self.seed = seed
        self.has_preferred_address = False
        """Whether ``prefer`` was called after the last ``learn``."""
        self.start = 0
        """The rank in ``usable`` where the search begins."""
        self._first: int | None = None
        """The only address that ``next`` returns before the first read."""
        self.size = usable.size
        if order == "spread" and self.size:
            self.start = spread_index(seed, self.size)
            self._first = usable.nth(self.start)
        self._taken: set[int] = set()
        self._last_read: AddressSet | None = None
        """The usable addresses in the range of the last read; None before the first read."""

    def next(self, avoid: Container[int]) -> int | None:
        """An address that no read has found taken; None if the caller must read etcd first.

        In ``spread`` order, the result is also None if few addresses are free, because other
        writers would choose the same addresses. ``avoid``: addresses that other requests of this
        process are claiming.
        """
        if self._last_read is None:
            return None if self._first in avoid else self._first
        values = (value for first, last in self._last_read for value in range(first, last + 1))
        free_values = (value for value in values if value not in self._taken and value not in avoid)
        if self.order == "sequential":
            return next(free_values, None)
        # Not the first free address: requests with an overlapping window would choose it too.
        choices = list(free_values)
        if is_scarce(len(choices), self._last_read.size):
            return None
        return choices[spread_index(self.seed, len(choices))]

    def window_last(self, value: int) -> int:
        """The last address of the window that begins with ``value``."""
        usable = self.usable
        return usable.nth(min(usable.rank(value) + WINDOW_ADDRESSES, usable.size) - 1)

    def learn(self, first: int, last: int, taken: Iterable[int]) -> None:
        """Record that a read of [first, last] found exactly ``taken`` in use."""
        self.has_preferred_address = False
        self._taken.update(taken)
        self._last_read = self.usable & AddressSet(self.usable.family, ((first, last),))

    def prefer(self, value: int) -> None:
        """Let ``next`` return this address, which a read found usable for the holder."""
        self.has_preferred_address = True
        self._taken.discard(value)
        self._last_read = AddressSet(self.usable.family, ((value, value),))

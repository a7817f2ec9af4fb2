"""The choice of an address in a pool, without reading which addresses are claimed.

``spread`` (the default): the hash of the holder is the start of the search in the pool, so that
writers on many nodes rarely choose the same address; ``sequential``: the lowest free address, as in
Spiderpool. Both use what failed transactions and reads have returned (``Search.learn``), and
``Search.next`` returns None when that is not enough: then read etcd. Pure and deterministic.
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from hashlib import blake2b
from typing import Literal

from core.domain.addresses.address_set import AddressSet

AddressOrder = Literal["spread", "sequential"]

WINDOW_ADDRESSES = 32
"""Addresses a failed try reads from the one it wanted onwards."""

SCARCE_SHARE = 1 / 8
"""Up to this free share, an address that is picked without a read is usually in use."""


def is_scarce(free: int, size: int) -> bool:
    """Whether an address that is picked without a read is usually in use, for few are free."""
    return free <= size * SCARCE_SHARE


def spread_index(seed: str, size: int) -> int:
    """An index in [0, size) that depends only on the seed."""
    digest = blake2b(seed.encode(), digest_size=16).digest()
    return int.from_bytes(digest, "big") % size


class Search:
    """One request's search for one address in one pool."""

    __slots__ = (
        *("_first", "_known", "_taken", "has_offer", "is_taught", "order", "seed", "size"),
        *("start", "usable"),
    )

    def __init__(self, usable: AddressSet, order: AddressOrder, seed: str) -> None:
        self.usable = usable
        self.order = order
        self.seed = seed
        self.is_taught = False
        """Whether some addresses were read and found free."""
        self.has_offer = False
        """Whether one address is known that comes before any other."""
        self.start = 0
        """The rank in ``usable`` where this search begins."""
        self._first: int | None = None
        """The only address that may be named before anything was read."""
        self.size = usable.size
        """Usable addresses."""
        if order == "spread" and self.size:
            self.start = spread_index(seed, self.size)
            self._first = usable.nth(self.start)
        self._taken: set[int] = set()
        self._known: AddressSet | None = None
        """What was read."""

    def next(self, avoid: Container[int]) -> int | None:
        """An address that is not known to be taken; None: read etcd first.

        In ``spread`` order the result is None if few addresses are free, because others choose
        among the same ones. ``avoid``: addresses that requests of this process are claiming.
        """
        known = self._known
        if not self.is_taught or known is None:
            return None if self._first in avoid else self._first
        values = (value for first, last in known for value in range(first, last + 1))
        free = (value for value in values if value not in self._taken and value not in avoid)
        if self.order == "sequential":
            return next(free, None)
        # Not the first: requests whose windows overlap would meet there again.
        choice = list(free)
        if is_scarce(len(choice), known.size):
            return None
        return choice[spread_index(self.seed, len(choice))]

    def window_last(self, value: int) -> int:
        """The end of the stretch from ``value`` on that a failed try for it should read."""
        usable = self.usable
        return usable.nth(min(usable.rank(value) + WINDOW_ADDRESSES, usable.size) - 1)

    def learn(self, first: int, last: int, taken: Iterable[int]) -> None:
        """The truth about [first, last]: exactly ``taken`` cannot be had there."""
        self.has_offer = False
        self.is_taught = True
        self._taken.update(taken)
        self._known = self.usable & AddressSet(self.usable.family, ((first, last),))

    def offer(self, value: int) -> None:
        """Add an address that a read found free."""
        self.has_offer = True
        self.is_taught = True
        self._taken.discard(value)
        self._known = AddressSet(self.usable.family, ((value, value),))

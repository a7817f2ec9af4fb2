"""Choosing an address inside a pool, without knowing who holds what.

``spread`` (the default): the holder's hash names a place in the pool's set, so that writers on many
nodes do not meet; ``sequential``: the lowest free address, as Spiderpool does. Both learn
from what failed transactions and reads have told (``Search.learn``), and both say honestly when
they do not know enough to name an address (``Search.next`` answers None: read the truth). Pure: the
hash is the only chance there is.
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
"""Share of free addresses up to which a pool is nearly full, so that a blind choice will miss."""


def is_scarce(free: int, size: int) -> bool:
    """Whether so few of so many addresses are free that a blind choice would mostly miss."""
    return free <= size * SCARCE_SHARE


def spread_index(seed: str, size: int) -> int:
    """A place in [0, size) that depends on nothing but the seed."""
    digest = blake2b(seed.encode(), digest_size=16).digest()
    return int.from_bytes(digest, "big") % size


class Search:
    """One request's search for one address in one pool."""

    __slots__ = ("_known", "_start", "_taken", "has_offer", "is_taught", "order", "seed", "usable")

    def __init__(self, usable: AddressSet, order: AddressOrder, seed: str) -> None:
        self.usable = usable
        self.order = order
        self.seed = seed
        self.is_taught = False
        """Whether the truth about some addresses was read."""
        self.has_offer = False
        """Whether one address is known that comes before any other."""
        self._start = spread_index(seed, usable.size) if order == "spread" and usable else 0
        self._taken: set[int] = set()
        # What was read. Before that, only the address at the hashed place may be named (spread).
        self._known: AddressSet | None = None

    @property
    def start(self) -> int:
        """The rank in ``usable`` where this search begins."""
        return self._start

    def next(self, avoid: Container[int]) -> int | None:
        """An address that nothing known speaks against, or None: read the truth first.

        In ``spread`` order nothing is named where few are free: others choose among the same few.
        ``avoid``: addresses that other requests of this process are claiming right now.
        """
        known = self._known
        if not self.is_taught or known is None:
            return self._first(avoid)
        values = (value for first, last in known for value in range(first, last + 1))
        free = (value for value in values if value not in self._taken and value not in avoid)
        if self.order == "sequential":
            return next(free, None)
        # Not the first: requests whose windows overlap would meet there again.
        choice = list(free)
        if is_scarce(len(choice), known.size):
            return None
        return choice[spread_index(self.seed, len(choice))]

    def _first(self, avoid: Container[int]) -> int | None:
        """What may be named before anything was read."""
        if self.order != "spread" or not self.usable:
            return None
        value = self.usable.nth(self._start)
        return None if value in avoid else value

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
        """A read of the truth found this one free."""
        self.has_offer = True
        self.is_taught = True
        self._taken.discard(value)
        self._known = AddressSet(self.usable.family, ((value, value),))

"""The free addresses of one pool as intervals that change one address at a time.

``AddressSet`` is immutable and linear in its intervals; a projection sees one claim after the other
and must not pay for all of them each time. Here a change is two binary searches and a shift inside
two lists: microseconds with tens of thousands of intervals. Never expands an interval, never
decides what may be free: that is the caller's.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator

from core.domain.addresses.address_set import AddressSet, Interval


class FreeIntervals:
    """Sorted, disjoint, non-adjacent closed intervals, and how many addresses they hold."""

    __slots__ = ("_firsts", "_lasts", "size")

    def __init__(self, addresses: AddressSet) -> None:
        self._firsts = [first for first, _ in addresses]
        self._lasts = [last for _, last in addresses]
        self.size = addresses.size

    def __iter__(self) -> Iterator[Interval]:
        return zip(self._firsts, self._lasts, strict=True)

    def __len__(self) -> int:
        """The number of intervals, not of addresses."""
        return len(self._firsts)

    def discard(self, value: int) -> None:
        """The address is free no longer; one that was not free changes nothing."""
        index = bisect_right(self._firsts, value) - 1
        if index < 0 or value > self._lasts[index]:
            return
        first, last = self._firsts[index], self._lasts[index]
        pieces = [(a, b) for a, b in ((first, value - 1), (value + 1, last)) if a <= b]
        self._firsts[index : index + 1] = [a for a, _ in pieces]
        self._lasts[index : index + 1] = [b for _, b in pieces]
        self.size -= 1

    def add(self, value: int) -> None:
        """The address is free from now on; one that was free already changes nothing."""
        index = bisect_right(self._firsts, value)
        if index and value <= self._lasts[index - 1]:
            return
        joins_before = index > 0 and self._lasts[index - 1] == value - 1
        joins_after = index < len(self._firsts) and self._firsts[index] == value + 1
        begin, end = index - joins_before, index + joins_after
        first = self._firsts[index - 1] if joins_before else value
        last = self._lasts[index] if joins_after else value
        self._firsts[begin:end] = [first]
        self._lasts[begin:end] = [last]
        self.size += 1

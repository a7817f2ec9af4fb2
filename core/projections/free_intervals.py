"""The free addresses of one pool, as intervals.

To add or remove one address takes microseconds; with an ``AddressSet`` it would take time linear in
the number of intervals.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator

from core.domain.addresses.address_set import AddressSet, Interval


class FreeIntervals:
    """Sorted, disjoint, non-adjacent closed intervals. ``size``: the number of addresses."""

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
        """Remove an address; does nothing if it is not free."""
        index = bisect_right(self._firsts, value) - 1
        if index < 0 or value > self._lasts[index]:
            return
        first, last = self._firsts[index], self._lasts[index]
        halves = ((first, value - 1), (value + 1, last))
        remaining_intervals = [(low, high) for low, high in halves if low <= high]
        self._firsts[index : index + 1] = [low for low, _ in remaining_intervals]
        self._lasts[index : index + 1] = [high for _, high in remaining_intervals]
        self.size -= 1

    def add(self, value: int) -> None:
        """Add an address; does nothing if it is free already."""
        index = bisect_right(self._firsts, value)
        if index and value <= self._lasts[index - 1]:
            return
        # [begin, end) are the intervals adjacent to the address; one new interval replaces them.
        begin = end = index
        first = last = value
        if index > 0 and self._lasts[index - 1] == value - 1:
            begin, first = index - 1, self._firsts[index - 1]
        if index < len(self._firsts) and self._firsts[index] == value + 1:
            end, last = index + 1, self._lasts[index]
        self._firsts[begin:end] = [first]
        self._lasts[begin:end] = [last]
        self.size += 1

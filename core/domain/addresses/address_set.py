"""Sets of addresses as sorted, disjoint, non-adjacent closed intervals.

Time and space are at most linear in the number of intervals. Syntax of address lists:
docs/reference/admission.md, "Addresses and ranges".
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from itertools import accumulate, pairwise
from math import ceil
from typing import Final, TypeAlias

from core.domain.addresses.ip_address import (
    VALUE_MAX,
    AddressSyntaxError,
    Cidr,
    Family,
    SyntaxFault,
    format_range,
    parse_range,
)

Interval: TypeAlias = tuple[int, int]
"""``(first, last)``, both included."""

CLAMPED_SIZE_MAX: Final = 2**63 - 1
"""The largest count in a status field."""

_REPR_INTERVALS_MAX: Final = 6


class AddressSet:
    """Addresses of one family, immutable. No ``__len__``: ``len()`` cannot return 2**64."""

    __slots__ = ("_cached_cumulative_sizes", "_family", "_intervals", "_starts")

    _family: Family
    _intervals: tuple[Interval, ...]
    _starts: tuple[int, ...] | None
    _cached_cumulative_sizes: tuple[int, ...] | None

    def __init__(self, family: Family, intervals: tuple[Interval, ...] = ()) -> None:
        """``intervals`` must be sorted, disjoint and not adjacent; else use ``from_intervals``."""
        self._family = family
        self._intervals = intervals
        self._starts = None
        self._cached_cumulative_sizes = None

    @classmethod
    def from_items(cls, texts: Iterable[str], family: Family) -> AddressSet:
        """Parse ``A`` or ``A-B`` items, in any order; items may overlap.

        Raises AddressSyntaxError for an item that is malformed, reversed, or not of ``family``.
        """
        intervals = []
        for text in texts:
            item_family, first, last = parse_range(text)
            if item_family != family:
                raise AddressSyntaxError(text, SyntaxFault.WRONG_FAMILY)
            intervals.append((first, last))
        return cls(family, _merged(intervals))

    @classmethod
    def from_intervals(cls, intervals: Iterable[Interval], family: Family) -> AddressSet:
        """Build from ``(first, last)`` pairs in any order; pairs may overlap.

        Raises ValueError for a pair that is reversed or outside the family.
        """
        pairs = list(intervals)
        for first, last in pairs:
            if not 0 <= first <= last <= VALUE_MAX[family]:
                raise ValueError(f"({first}, {last}) is not an interval of IPv{family} addresses")
        return cls(family, _merged(pairs))

    @classmethod
    def from_values(cls, values: Iterable[int], family: Family) -> AddressSet:
        """Build from addresses in any order.

        Raises ValueError for an address outside the family.
        """
        sorted_values = sorted(values)  # numbers sort five times faster than pairs
        if sorted_values and not 0 <= sorted_values[0] <= sorted_values[-1] <= VALUE_MAX[family]:
            raise ValueError(
                f"{sorted_values[0]} to {sorted_values[-1]} are not IPv{family} addresses"
            )
        intervals: list[Interval] = []
        first = last = -2  # a sentinel, adjacent to no address
        for value in sorted_values:
            if value > last + 1:
                intervals.append((first, last))
                first = value
            last = value
        intervals.append((first, last))
        return cls(family, tuple(intervals[1:]))

    @classmethod
    def from_cidr(cls, cidr: Cidr) -> AddressSet:
        """All addresses of a prefix."""
        return cls(cidr.family, ((cidr.first, cidr.last),))

    @property
    def family(self) -> Family:
        """4 or 6, also for an empty set."""
        return self._family

    @property
    def intervals(self) -> tuple[Interval, ...]:
        """The intervals, ascending."""
        return self._intervals

    def __iter__(self) -> Iterator[Interval]:
        """Iterate over the intervals, never over the addresses."""
        return iter(self._intervals)

    def __bool__(self) -> bool:
        return bool(self._intervals)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, AddressSet):
            return NotImplemented
        return self._family == other._family and self._intervals == other._intervals

    def __hash__(self) -> int:
        return hash((self._family, self._intervals))

    def __repr__(self) -> str:
        shown_intervals = self._intervals[:_REPR_INTERVALS_MAX]
        items = [format_range(self._family, first, last) for first, last in shown_intervals]
        hidden_count = len(self._intervals) - len(shown_intervals)
        if hidden_count:
            items.append(f"... {hidden_count} more")
        return f"<AddressSet IPv{self._family} [{', '.join(items)}] of {self.size}>"

    def to_items(self) -> list[str]:
        """The fewest ``A`` or ``A-B`` texts, ascending."""
        return [format_range(self._family, first, last) for first, last in self._intervals]

    @property
    def size(self) -> int:
        """The number of addresses."""
        cumulative = self._cumulative_sizes()
        return cumulative[-1] if cumulative else 0

    @property
    def clamped_size(self) -> int:
        """``size``, at most ``CLAMPED_SIZE_MAX``."""
        return min(self.size, CLAMPED_SIZE_MAX)

    def __contains__(self, value: int) -> bool:
        index = self._index_at_or_before(value)
        return index >= 0 and value <= self._intervals[index][1]

    def first(self) -> int:
        """The lowest address. Raises IndexError when the set is empty."""
        return self._intervals[0][0]

    def last(self) -> int:
        """The highest address. Raises IndexError when the set is empty."""
        return self._intervals[-1][1]

    def nth(self, index: int) -> int:
        """The address at ``index``, ascending. Raises IndexError outside 0..size-1."""
        cumulative = self._cumulative_sizes()
        if not cumulative or not 0 <= index < cumulative[-1]:
            raise IndexError(f"no member {index} in a set of {self.size} addresses")
        position = bisect_right(cumulative, index)
        # ``cumulative[position]`` counts up to the end of the interval, so subtract from the end.
        return self._intervals[position][1] - (cumulative[position] - index - 1)

    def rank(self, value: int) -> int:
        """The number of members below ``value``, which need not be a member."""
        index = self._index_at_or_before(value)
        if index < 0:
            return 0
        last = self._intervals[index][1]
        return self._cumulative_sizes()[index] - max(0, last - value + 1)

    def window(self, index: int, count: int) -> AddressSet:
        """The ``count`` addresses from ``nth(index)`` on; fewer if the set ends before.

        Raises ValueError for negative arguments.
        """
        if index < 0 or count < 0:
            raise ValueError(f"the window has a negative index or count: {index}, {count}")
        end = min(index + count, self.size)
        if index >= end:
            return AddressSet(self._family)
        cumulative = self._cumulative_sizes()
        low = bisect_right(cumulative, index)
        high = bisect_right(cumulative, end - 1)
        window_intervals = list(self._intervals[low : high + 1])
        window_intervals[-1] = (window_intervals[-1][0], self.nth(end - 1))
        window_intervals[0] = (self.nth(index), window_intervals[0][1])
        return AddressSet(self._family, tuple(window_intervals))

    def split(self, parts: int) -> list[AddressSet]:
        """Cut into at most ``parts`` consecutive non-empty sets whose sizes differ by one at most.

        Raises ValueError when ``parts`` is not positive.
        """
        if parts < 1:
            raise ValueError(f"cannot split into {parts} parts")
        size = self.size
        count = min(parts, size)
        cuts = [size * part // count for part in range(count + 1)] if count else [0]
        return [self.window(low, high - low) for low, high in pairwise(cuts)]

    def covering_intervals(self, count: int) -> list[Interval]:
        """At most ``count`` intervals that cover the set.

        If the set has more intervals, neighbours are joined, and the gaps between them are covered
        too. Raises ValueError when ``count`` is not positive.
        """
        if count < 1:
            raise ValueError(f"cannot cover a set with {count} intervals")
        group_size = max(1, ceil(len(self._intervals) / count))
        starts = range(0, len(self._intervals), group_size)
        groups = (self._intervals[start : start + group_size] for start in starts)
        return [(group[0][0], group[-1][1]) for group in groups]

    def __or__(self, other: AddressSet) -> AddressSet:
        self._require_same_family(other)
        if not other or self is other:
            return self
        if not self:
            return other
        return AddressSet(self._family, _merged([*self._intervals, *other._intervals]))

    def __sub__(self, other: AddressSet) -> AddressSet:
        self._require_same_family(other)
        if not other or not self:
            return self
        return AddressSet(self._family, tuple(_difference(self._intervals, other._intervals)))

    def __and__(self, other: AddressSet) -> AddressSet:
        self._require_same_family(other)
        return AddressSet(self._family, tuple(_overlaps(self._intervals, other._intervals)))

    def isdisjoint(self, other: AddressSet) -> bool:
        """Whether no address is in both sets."""
        self._require_same_family(other)
        return next(_overlaps(self._intervals, other._intervals), None) is None

    def issubset(self, other: AddressSet) -> bool:
        """Whether every address is in ``other`` too."""
        self._require_same_family(other)
        return next(_difference(self._intervals, other._intervals), None) is None

    def _index_at_or_before(self, value: int) -> int:
        starts = self._starts
        if starts is None:
            starts = self._starts = tuple([first for first, _ in self._intervals])
        return bisect_right(starts, value) - 1

    def _cumulative_sizes(self) -> tuple[int, ...]:
        """The number of members up to the end of each interval."""
        cumulative = self._cached_cumulative_sizes
        if cumulative is None:
            sizes = [last - first + 1 for first, last in self._intervals]
            cumulative = self._cached_cumulative_sizes = tuple(accumulate(sizes))
        return cumulative

    def _require_same_family(self, other: AddressSet) -> None:
        if self._family != other._family:
            raise ValueError(f"cannot combine IPv{self._family} with IPv{other._family} addresses")


def _merged(intervals: list[Interval]) -> tuple[Interval, ...]:
    # A union passes two sorted lists: sort() merges them in linear time.
    intervals.sort()
    merged_intervals: list[Interval] = []
    end = -2  # a sentinel, adjacent to no interval
    for first, last in intervals:
        if first > end + 1:
            merged_intervals.append((first, last))
            end = last
        elif last > end:
            merged_intervals[-1] = (merged_intervals[-1][0], last)
            end = last
    return tuple(merged_intervals)


def _difference(intervals: tuple[Interval, ...], cuts: tuple[Interval, ...]) -> Iterator[Interval]:
    index, count = 0, len(cuts)
    for first, last in intervals:
        start = first
        while index < count and cuts[index][0] <= last:
            cut_first, cut_last = cuts[index]
            if start < cut_first:
                yield start, cut_first - 1
            start = max(start, cut_last + 1)
            if cut_last > last:
                break  # this cut may reach into the next interval
            index += 1
        if start <= last:
            yield start, last


def _overlaps(left: tuple[Interval, ...], right: tuple[Interval, ...]) -> Iterator[Interval]:
    left_index = right_index = 0
    while left_index < len(left) and right_index < len(right):
        left_first, left_last = left[left_index]
        right_first, right_last = right[right_index]
        first = max(left_first, right_first)
        last = min(left_last, right_last)
        if first <= last:
            yield first, last
        if left_last < right_last:
            left_index += 1
        else:
            right_index += 1

"""Positions and times of a log: which position it had reached when its clock stood at a time.

One entry a segment, 20 bytes. The clock never goes back (``core.archive.replay.ticked``), so both
directions are bisections. Pure.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from typing import NamedTuple


class Bucket(NamedTuple):
    """``events`` from ``begin_ms`` to the next bucket; ``position``: the last one before it."""

    begin_ms: int
    position: int
    events: int


class LogClock:
    """The clock after each segment. ``base_position`` and ``base_ms``: before the first."""

    def __init__(self, base_position: int = 0, base_ms: int = 0) -> None:
        self.base_position = base_position
        self.base_ms = base_ms
        self._positions = array("Q")
        self._clocks = array("Q")
        self._events = array("Q")

    def append(self, position: int, clock_ms: int, events: int) -> None:
        """One more segment, with so many events."""
        self._positions.append(position)
        self._clocks.append(clock_ms)
        self._events.append(self.events + events)

    @property
    def events(self) -> int:
        """All events."""
        return self._events[-1] if self._events else 0

    @property
    def position(self) -> int:
        """The last position."""
        return self._positions[-1] if self._positions else self.base_position

    @property
    def clock_ms(self) -> int:
        """The clock at the end."""
        return self._clocks[-1] if self._clocks else self.base_ms

    @property
    def first(self) -> tuple[int, int]:
        """Position and clock of the first segment; of the base without any."""
        if self._positions:
            return self._positions[0], self._clocks[0]
        return self.base_position, self.base_ms

    def time_of(self, position: int) -> int:
        """The clock after everything up to the position; 0 before the base, where it is unknown."""
        if position < self.base_position:
            return 0
        index = bisect_right(self._positions, position) - 1
        return self._clocks[index] if index >= 0 else self.base_ms

    def position_at(self, time_ms: int) -> int:
        """The last position whose clock had not passed the time."""
        index = bisect_right(self._clocks, time_ms) - 1
        return self._positions[index] if index >= 0 else self.base_position

    def position_before(self, position: int, segments: int) -> int:
        """The position so many segments before the next one after ``position``."""
        index = bisect_right(self._positions, position) - segments - 1
        return self._positions[index] if index >= 0 else self.base_position

    def density(
        self, buckets: int, begin_ms: int | None = None, end_ms: int | None = None
    ) -> list[Bucket]:
        """The events of equal parts of a time; by default from the first to the last segment."""
        if not self._positions:
            return []
        begin = self._clocks[0] if begin_ms is None else begin_ms
        end = self._clocks[-1] + 1 if end_ms is None else end_ms
        buckets = max(1, min(buckets, end - begin))
        edges = [begin + (end - begin) * number // buckets for number in range(buckets + 1)]
        indexes = [bisect_right(self._clocks, edge - 1) for edge in edges]
        counts = [self._events[index - 1] if index else 0 for index in indexes]
        return [
            Bucket(
                edges[number],
                self._positions[indexes[number] - 1] if indexes[number] else self.base_position,
                counts[number + 1] - counts[number],
            )
            for number in range(buckets)
        ]

    @property
    def nbytes(self) -> int:
        """What it occupies."""
        columns = (self._positions, self._clocks, self._events)
        return sum(len(column) * column.itemsize for column in columns)

"""Converts between positions of a log, times of the log's clock, and dates. No I/O.

The clock never goes back, so bisection finds a position or a time.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)


def unix_ms_of(moment: datetime) -> int:
    """Unix milliseconds, rounded down. Raises OverflowError outside the years 1 to 9999 in UTC."""
    return (moment.astimezone(UTC) - _EPOCH) // _MILLISECOND


def moment_of(unix_ms: int) -> datetime:
    """The time in UTC. Raises OverflowError outside the years 1 to 9999."""
    return _EPOCH + _MILLISECOND * unix_ms


class Bucket(NamedTuple):
    """A period that ends where the next bucket begins.

    ``position``: the last position before the period. ``events``: the number of events in it.
    """

    begin_ms: int
    position: int
    events: int


class LogClock:
    """The log's clock after each segment. ``base_*``: position and clock before all segments."""

    def __init__(self, base_position: int = 0, base_ms: int = 0) -> None:
        self.base_position = base_position
        self.base_ms = base_ms
        self._positions = array("Q")
        self._clocks = array("Q")
        self._events = array("Q")

    def append(self, position: int, clock_ms: int, events: int) -> None:
        """Add a segment with this number of events."""
        self._positions.append(position)
        self._clocks.append(clock_ms)
        self._events.append(self.events + events)

    @property
    def events(self) -> int:
        """The number of events of all segments."""
        return self._events[-1] if self._events else 0

    @property
    def position(self) -> int:
        """The position of the last segment; without segments, ``base_position``."""
        return self._positions[-1] if self._positions else self.base_position

    @property
    def clock_ms(self) -> int:
        """The clock after the last segment; without segments, ``base_ms``."""
        return self._clocks[-1] if self._clocks else self.base_ms

    @property
    def first(self) -> tuple[int, int]:
        """The position and the clock of the first segment; without segments, of the base."""
        if self._positions:
            return self._positions[0], self._clocks[0]
        return self.base_position, self.base_ms

    def time_of(self, position: int) -> int:
        """The clock at the position; 0 for a position before the base."""
        if position < self.base_position:
            return 0
        index = bisect_right(self._positions, position) - 1
        return self._clocks[index] if index >= 0 else self.base_ms

    def position_at(self, time_ms: int) -> int:
        """The last position at which the clock is not after the time."""
        index = bisect_right(self._clocks, time_ms) - 1
        return self._positions[index] if index >= 0 else self.base_position

    def position_before(self, position: int, segments: int) -> int:
        """The position after which ``segments`` segments follow, up to ``position``."""
        index = bisect_right(self._positions, position) - segments - 1
        return self._positions[index] if index >= 0 else self.base_position

    def density(
        self, buckets: int, begin_ms: int | None = None, end_ms: int | None = None
    ) -> list[Bucket]:
        """Count the events in up to ``buckets`` equal parts of a period (default: all segments)."""
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

"""Last, least, greatest and mean of a duration, which Spiderpool's dashboards draw.

A histogram says more; these exist because their names are documented. Counts since the start.
"""

from __future__ import annotations


class Durations:
    """Statistics of one duration, in seconds; all 0 before the first one."""

    __slots__ = ("count", "greatest", "latest", "least", "total")

    def __init__(self) -> None:
        self.count = 0
        self.latest = 0.0
        self.least = 0.0
        self.greatest = 0.0
        self.total = 0.0

    def record(self, seconds: float) -> None:
        """Take one more in."""
        if not self.count or seconds < self.least:
            self.least = seconds
        self.greatest = max(self.greatest, seconds)
        self.count += 1
        self.latest = seconds
        self.total += seconds

    @property
    def mean(self) -> float:
        """The mean, 0 before the first one."""
        return self.total / self.count if self.count else 0.0

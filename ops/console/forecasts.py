"""Forecasts when pools and subnets will be full (``core.domain.forecast``). Pure."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict
from functools import cached_property
from itertools import accumulate, pairwise
from typing import Final

from core.audit.indexed_log import LogInstant
from core.audit.pool_growth import HOUR_MS
from core.domain.configuration.configuration_state import readable_addresses
from core.domain.forecast import HOURS_MAX, Forecast, NoTrend, forecast_exhaustion
from core.domain.model import Subnet
from core.domain.subnets.subnet_model import owner_subnet_name
from ops.console.json_values import Document, time_text

PER_DAY_DIGITS: Final = 3


class GrowthAt:
    """The growth of pools and subnets up to one instant."""

    def __init__(self, instant: LogInstant) -> None:
        self._instant = instant
        self._log = instant.log

    @cached_property
    def _hour_positions(self) -> list[int]:
        """Positions at the last ``HOURS_MAX`` full hours in the index, oldest first."""
        this_hour = self._instant.time_ms // HOUR_MS
        clock = self._log.clock
        ends = [hour * HOUR_MS - 1 for hour in range(this_hour - HOURS_MAX, this_hour + 1)]
        positions = [clock.position_at(end) for end in ends if end >= clock.base_ms]
        return [min(position, self._instant.position) for position in positions]

    def levels(self, pool: str) -> list[int]:
        """Numbers of allocated addresses at each full hour of the pool's life, oldest first."""
        table, since = self._log.table(pool), self._log.pools.first_position(pool)
        return [table.count_at(position) for position in self._hour_positions if position >= since]

    def of_pool(self, pool: str, free: int) -> Document:
        """``Forecast`` of a pool."""
        levels = self.levels(pool)
        return self._document([after - before for before, after in pairwise(levels)], free)

    def of_subnet(self, subnet: Subnet, free: int) -> Document:
        """``Forecast`` of a subnet, whose pools take its addresses."""
        since = self._log.subnets.first_position(subnet.name)
        changes = self._size_changes[subnet.name]
        positions = sorted(changes)
        sizes = [0, *accumulate(changes[position] for position in positions)]
        levels = [
            sizes[bisect_right(positions, position)]
            for position in self._hour_positions
            if position >= since
        ]
        return self._document([after - before for before, after in pairwise(levels)], free)

    @cached_property
    def _size_changes(self) -> defaultdict[str, Counter[int]]:
        """Subnet -> position -> addresses that the subnet's pools gained; negative: lost."""
        changes: defaultdict[str, Counter[int]] = defaultdict(Counter)
        pools, hours = self._log.pools, self._hour_positions
        for name in pools.names() if hours else ():
            owner, size = "", 0
            for position, pool in pools.between(name, hours[0], hours[-1]):
                changes[owner][position] -= size
                owner = owner_subnet_name(pool) if pool is not None else ""
                size = readable_addresses(pool).size if pool is not None and owner else 0
                changes[owner][position] += size
        return changes

    def _document(self, hourly_growth: list[int], free: int) -> Document:
        forecast: Forecast | NoTrend = forecast_exhaustion(hourly_growth, free)
        if isinstance(forecast, NoTrend):
            return {"noTrend": forecast.reason}
        now_ms = self._instant.time_ms
        return {
            "perDay": round(forecast.per_day, PER_DAY_DIGITS),
            "basisDays": forecast.days,
            "earliest": time_text(now_ms + int(forecast.earliest_s * 1000)),
            "expected": time_text(now_ms + int(forecast.expected_s * 1000)),
            "latest": time_text(now_ms + int(forecast.latest_s * 1000)),
        }

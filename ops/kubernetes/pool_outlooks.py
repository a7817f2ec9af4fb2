"""The outlook of each pool: the horizon (a coarse time) in which the pool is expected to be full.

The leader's forecaster updates the outlooks, and the reporter writes them as condition FullSoon. A
pool is reported again only if its horizon has changed, which saves writes. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from typing import TypeAlias

from core.audit.pool_growth import GrowthSubject
from core.domain.forecast import Forecast, Horizon, NoTrend, horizon_of

Outlooks: TypeAlias = Mapping[str, Horizon | None]
"""Pool -> horizon; None without a trend. Pools without a forecast are missing."""


class PoolOutlooks:
    """The current outlooks; ``by_pool`` is empty while this replica makes no forecasts."""

    def __init__(self) -> None:
        self.by_pool: Outlooks = {}
        self._on_change: Callable[[AbstractSet[str]], None] = lambda _: None

    def listen(self, on_change: Callable[[AbstractSet[str]], None]) -> None:
        """Call ``on_change`` with the names of pools whose outlook has changed."""
        self._on_change = on_change

    def update(self, forecasts: Mapping[GrowthSubject, Forecast | NoTrend]) -> None:
        """Replace the forecasts of all pools; an empty mapping removes all outlooks."""
        before = self.by_pool
        self.by_pool = {
            subject.name: horizon_of(outlook)
            for subject, outlook in forecasts.items()
            if subject.kind == "pool"
        }
        changed = {
            name
            for name, horizon in self.by_pool.items()
            if name not in before or before[name] != horizon
        }
        if changed:
            self._on_change(changed)

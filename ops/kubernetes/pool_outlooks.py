"""Outlooks of pools: how soon each pool is expected to be full, as a coarse horizon. Pure.

The condition FullSoon is written only if the horizon has changed, which saves writes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from typing import TypeAlias

from core.audit.pool_growth import GrowthSubject
from core.domain.forecast import Forecast, Horizon, NoTrend, horizon_of

Outlooks: TypeAlias = Mapping[str, Horizon | None]
"""Pool -> horizon, or None if the forecast has no trend. Pools without a forecast are missing."""


class PoolOutlooks:
    """The current outlooks; ``by_pool`` is empty while this replica makes no forecasts."""

    def __init__(self) -> None:
        self.by_pool: Outlooks = {}
        self._on_change: Callable[[AbstractSet[str]], None] = lambda _: None

    def listen(self, on_change: Callable[[AbstractSet[str]], None]) -> None:
        """Call ``on_change`` with the pools whose outlook has changed."""
        self._on_change = on_change

    def update(self, forecasts: Mapping[GrowthSubject, Forecast | NoTrend]) -> None:
        """Replace the forecasts of all pools."""
        before = self.by_pool
        self.by_pool = {
            subject.name: horizon_of(forecast)
            for subject, forecast in forecasts.items()
            if subject.kind == "pool"
        }
        changed = {
            name
            for name, horizon in self.by_pool.items()
            if name not in before or before[name] != horizon
        }
        if changed:
            self._on_change(changed)

"""Forecasts when pools and subnets will be full. Only the leader makes forecasts.

If the log cannot be read, there are no forecasts until the next period.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from core.archive.archive_directory import Files
from core.archive.replay import open_log
from core.archive.unread_parts import UnreadPartList
from core.audit.pool_growth import GrowthLog, GrowthSubject
from core.domain.forecast import Forecast, NoTrend, forecast_exhaustion
from core.domain.subnets.subnet_model import count_addresses
from core.errors import OrbweaverError, StoreUnavailable
from core.eventstore.keys import Keys
from core.eventstore.kv import KeyValueStore
from core.eventstore.writer import unix_ms
from core.projections.projector import Projector

FORECAST_PERIOD_S: Final = 900.0

OnForecasts = Callable[[Mapping[GrowthSubject, Forecast | NoTrend]], None]
"""Receives the forecasts of each period; an empty mapping removes the last forecasts."""

_log: Final = logging.getLogger(__name__)


class Forecaster:
    """``forecasts`` has the forecasts of the last period. It is empty unless the replica leads."""

    def __init__(
        self,
        store: KeyValueStore,
        keys: Keys,
        files: Files,
        projector: Projector,
        *,
        on_forecasts: OnForecasts = lambda _: None,
        now_ms: Callable[[], int] = unix_ms,
    ) -> None:
        self._on_forecasts = on_forecasts
        self.forecasts: Mapping[GrowthSubject, Forecast | NoTrend] = {}
        self._made_at_ms = 0
        self._store = store
        self._keys = keys
        self._files = files
        self._projector = projector
        self._now_ms = now_ms

    async def run(self) -> None:
        """Forecast every period, until cancelled."""
        growth = GrowthLog()
        try:
            await self._projector.wait_for(lambda: self._projector.ready)
            while True:
                growth = await self.update(growth)
                await asyncio.sleep(FORECAST_PERIOD_S)
        finally:
            self._publish({})

    async def update(self, growth: GrowthLog) -> GrowthLog:
        """Forecast once; return the growth for the next call. A damaged log resets the growth."""
        now_ms = self._now_ms()
        try:
            await self._read(growth, now_ms)
        except OrbweaverError as error:
            _log.warning("forecasts cannot be made", extra={"fields": {"error": str(error)}})
            self._publish({})
            return growth if isinstance(error, StoreUnavailable) else GrowthLog()
        self._publish(
            {
                subject: forecast_exhaustion(growth.net_growth(subject, now_ms), free)
                for subject, free in self._free_counts()
            }
        )
        self._made_at_ms = now_ms
        return growth

    async def _read(self, growth: GrowthLog, now_ms: int) -> None:
        unread = UnreadPartList()
        view = await open_log(
            self._store, self._keys, self._files, now_ms=self._now_ms, unread=unread
        )
        await growth.read(view, now_ms)
        for part in unread.parts():
            fields = {"part": str(part), "remedy": part.remedy, "further": unread.unlisted}
            _log.warning("forecast without a part of the log", extra={"fields": fields})

    def exhaustion_s(self, kind: str) -> Iterator[tuple[str, float]]:
        """Each "pool" or "subnet" by name, with the expected seconds until it is full."""
        passed_s = (self._now_ms() - self._made_at_ms) / 1000
        for subject, forecast in self.forecasts.items():
            if subject.kind == kind and isinstance(forecast, Forecast):
                yield subject.name, max(forecast.expected_s - passed_s, 0.0)

    def _publish(self, forecasts: Mapping[GrowthSubject, Forecast | NoTrend]) -> None:
        self.forecasts = forecasts
        self._on_forecasts(forecasts)

    def _free_counts(self) -> Iterator[tuple[GrowthSubject, int]]:
        projection = self._projector.projection
        for name, tally in projection.tallies.items():
            yield GrowthSubject("pool", name), tally.counts.free
        for name, subnet in projection.ledger.subnets.items():
            yield (
                GrowthSubject("subnet", name),
                count_addresses(subnet, projection.ledger.pools).free,
            )

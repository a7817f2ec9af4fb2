"""What is asked now and then, so that probes and scrapes cost nothing: lag, leader, scan, etcd.

While something is wrong or the log moves it is asked every ``OBSERVE_PERIOD_S``; a cluster that is
well and quiet is asked every ``QUIET_PERIOD_S``, or as soon as the log moves.
"""

from __future__ import annotations

import asyncio
import math
import time
from contextlib import suppress
from typing import Final

from core.errors import LogCorrupt, StoreError, StoreUnavailable
from core.eventstore.election import LEADERS, Leader, read_leader
from core.eventstore.keys import Keys
from core.eventstore.kinds import key_text
from core.eventstore.kv import KeyValueStore
from core.eventstore.space import alarmed
from core.projections.projector import LEVEL, Lag, Projector
from workflows.engine.store.kinds import OPEN_HEADS
from workflows.jobs.reclaim.scan import ScanStatus, read_scan_status, scan_key

OBSERVE_PERIOD_S: Final = 2.0
QUIET_PERIOD_S: Final = 10.0
"""As often as kubelet probes a container by default."""

STALE_S_MAX: Final = 30.0
"""A look takes no longer, however slow etcd is."""

NEVER: Final = StoreUnavailable("etcd was not asked yet")


class ControllerObserver:
    """``fault``: why the last look failed; None when etcd answered."""

    def __init__(self, store: KeyValueStore, keys: Keys, projector: Projector, role: str) -> None:
        self._store = store
        self._keys = keys
        self._projector = projector
        self._role = role
        self.lag = Lag(0, 0.0)
        self.leader: Leader | None = None
        self.reclaim: ScanStatus | None = None
        self.fault: StoreError | None = NEVER
        self._looked_at = -math.inf

    def age_s(self) -> float:
        """Seconds since the last look ended."""
        return time.monotonic() - self._looked_at

    async def run(self) -> None:
        """Look every period, until cancelled."""
        while True:
            position = self._projector.projection.position
            await self.look()
            self._looked_at = time.monotonic()
            await asyncio.sleep(OBSERVE_PERIOD_S)
            if self._is_well:
                await self._until_moved(position)

    @property
    def _is_well(self) -> bool:
        return self.fault is None and self.leader is not None and self.lag == LEVEL

    async def _until_moved(self, position: int) -> None:
        """Until the projection has moved on from a position, at most for the rest of a period."""
        with suppress(TimeoutError):
            async with asyncio.timeout(QUIET_PERIOD_S - OBSERVE_PERIOD_S):
                await self._projector.wait_for(
                    lambda: self._projector.projection.position != position
                )

    async def look(self) -> None:
        """Ask once."""
        try:
            self.lag = await self._projector.measure_lag()
            self.leader = await self._read_leader()
            self.reclaim = await self._read_scan_status()
            alarms = await self._store.alarms()
        except StoreError as error:
            self.fault = error
            return
        self.fault = alarmed(alarms) if alarms else None

    async def _read_leader(self) -> Leader | None:
        """None, and a contained fault, while the key cannot be read."""
        try:
            found = await read_leader(self._store, self._keys, self._role)
        except LogCorrupt as error:
            self._projector.faults.report(LEADERS.name, error.subject, error)
            return None
        self._projector.faults.clear(f"lease/{self._role}")
        return found[0] if found else None

    async def _read_scan_status(self) -> ScanStatus | None:
        """None, and a contained fault, while the head of the scan cannot be read."""
        try:
            found = await read_scan_status(self._store, self._keys)
        except LogCorrupt as error:
            self._projector.faults.report(OPEN_HEADS.name, error.subject, error)
            return None
        self._projector.faults.clear(key_text(self._keys, scan_key(self._keys)))
        return found

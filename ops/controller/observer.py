"""Polls the state for health probes and metrics, so that these do not read etcd.

The poll period is

    ``OBSERVE_PERIOD_S``  during a fault, or while the log grows
    ``QUIET_PERIOD_S``    in a healthy and idle cluster, until the log grows
    ``VACANT_PERIOD_S``   without a leader; replicas become ready when they observe a leader
"""

from __future__ import annotations

import asyncio
import math
import time
from contextlib import suppress
from typing import Final

from core.errors import LogCorrupt, StoreError, StoreUnavailable
from core.eventstore.election import LEADER_KEYS, Leader, read_leader
from core.eventstore.full_etcd import alarm_error
from core.eventstore.keys import Keys, key_text
from core.eventstore.kv import KeyValueStore
from core.projections.projector import NO_LAG, Projector
from workflows.engine.store.kinds import OPEN_HEADS
from workflows.jobs.reclaim.scan import ScanStatus, read_scan_status, scan_key

OBSERVE_PERIOD_S: Final = 2.0
VACANT_PERIOD_S: Final = 0.1
QUIET_PERIOD_S: Final = 10.0
"""kubelet's default probe period."""

STALE_S_MAX: Final = 30.0
"""One observation takes less time, even if etcd is slow."""

NOT_READ_YET: Final = StoreUnavailable("etcd was not read yet")


class ControllerObserver:
    """The last observation. ``fault``: why etcd could not be read, or an alarm of etcd."""

    def __init__(self, store: KeyValueStore, keys: Keys, projector: Projector, role: str) -> None:
        self._store = store
        self._keys = keys
        self._projector = projector
        self._role = role
        self.lag = NO_LAG
        self.leader: Leader | None = None
        self.scan_status: ScanStatus | None = None
        self.fault: StoreError | None = NOT_READ_YET
        self._observed_at = -math.inf

    def age_s(self) -> float:
        """Seconds since the last observation."""
        return time.monotonic() - self._observed_at

    async def run(self) -> None:
        """Observe every period until cancelled."""
        while True:
            position = self._projector.projection.position
            await self.observe()
            self._observed_at = time.monotonic()
            is_vacant = self.fault is None and self.leader is None
            await asyncio.sleep(VACANT_PERIOD_S if is_vacant else OBSERVE_PERIOD_S)
            if self._is_healthy:
                await self._wait_for_log_growth(position)

    @property
    def _is_healthy(self) -> bool:
        return self.fault is None and self.leader is not None and self.lag == NO_LAG

    async def _wait_for_log_growth(self, position: int) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(QUIET_PERIOD_S - OBSERVE_PERIOD_S):
                await self._projector.wait_for(
                    lambda: self._projector.projection.position != position
                )

    async def observe(self) -> None:
        """Read lag, leader, scan and alarms once."""
        try:
            self.lag = await self._projector.measure_lag()
            self.leader = await self._read_leader()
            self.scan_status = await self._read_scan_status()
            alarms = await self._store.alarms()
        except StoreError as error:
            self.fault = error
            return
        self.fault = alarm_error(alarms) if alarms else None

    async def _read_leader(self) -> Leader | None:
        """If the key is damaged, report a fault and return None."""
        try:
            leader = await read_leader(self._store, self._keys, self._role)
        except LogCorrupt as error:
            self._projector.faults.report(LEADER_KEYS.name, error.subject, error)
            return None
        self._projector.faults.clear(f"lease/{self._role}")
        return leader[0] if leader else None

    async def _read_scan_status(self) -> ScanStatus | None:
        """If the key is damaged, report a fault and return None."""
        try:
            status = await read_scan_status(self._store, self._keys)
        except LogCorrupt as error:
            self._projector.faults.report(OPEN_HEADS.name, error.subject, error)
            return None
        self._projector.faults.clear(key_text(self._keys, scan_key(self._keys)))
        return status

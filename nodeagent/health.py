"""Whether this agent can serve requests, and whether all its parts work.

A request needs an open event writer and a loaded configuration view. A readiness probe also reads
etcd, at most once in ``PROBE_CACHED_S``. If a supervised task ended, or received nothing for too
long, the agent is not ready, but still serves ADDs and DELs from cached objects.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from core.errors import NotReady, OrbweaverError, StoreUnavailable, WriterFenced
from core.eventstore.full_etcd import alarm_error
from core.eventstore.keys import Keys
from core.eventstore.kv import Get, KeyValueStore
from core.eventstore.writer import Writer
from core.process.supervision import HealthCheck, Supervisor
from core.projections.configuration_view import ConfigurationView

PROBE_S_MAX: Final = 3.0

PROBE_CACHED_S: Final = 1.0

_UNANSWERED_OUTCOMES: Final = frozenset(
    {"StoreUnavailable", "StoreTimeout", "OutcomeUnknown", "CancelledError", "TimeoutError"}
)
"""Outcomes of calls that etcd did not answer."""


class StoreWatchdog:
    """A ``CallObserver`` that keeps the outcome of the last call to etcd."""

    def __init__(self) -> None:
        self.outcome = "ok"

    @property
    def is_unanswered(self) -> bool:
        """Whether the last call got no answer from etcd."""
        return self.outcome in _UNANSWERED_OUTCOMES

    def on_call(self, method: str, seconds: float, outcome: str) -> None:
        """See ``CallObserver``."""
        self.outcome = outcome


class AgentHealth:
    """The health of one agent."""

    def __init__(
        self,
        store: KeyValueStore,
        keys: Keys,
        view: ConfigurationView,
        writer: Writer,
        watchdog: StoreWatchdog,
        monotonic: Callable[[], float],
        supervisor: Supervisor | None = None,
    ) -> None:
        self._supervisor = supervisor or Supervisor()
        self._store = store
        self._keys = keys
        self._view = view
        self._writer = writer
        self._watchdog = watchdog
        self._monotonic = monotonic
        self._probed_at = float("-inf")
        self._alarms: tuple[str, ...] = ()
        self._probe_lock = asyncio.Lock()
        self.started = False
        self.stopping = False
        self.fenced: WriterFenced | None = None

    def why_not_ready(self) -> OrbweaverError | None:
        """Why this agent cannot serve; None if it can. Does no I/O."""
        # The epoch is 0 until the writer is open.
        if self._writer.epoch and self._view.ready and not (self.stopping or self.fenced):
            return None  # fast path: every request calls this
        for check in self._local_checks():
            if check.fault is not None:
                return check.fault
        return None

    def why_not_healthy(self) -> OrbweaverError | None:
        """The fault of ``why_not_ready``, else of etcd: no answer to the last call, or an alarm."""
        return self.why_not_ready() or self._store_fault()

    async def checks(self) -> list[HealthCheck]:
        """All checks, also of supervised tasks. Reads etcd."""
        tasks = self._supervisor.health()
        serving_checks = await self._checks_with_etcd()
        return [*serving_checks, *(HealthCheck(f"task/{name}", fault) for name, fault in tasks)]

    async def probe_fault(self) -> OrbweaverError | None:
        """Like ``why_not_healthy``, but reads etcd first."""
        return _first_fault(await self._checks_with_etcd())

    async def readiness_fault(self) -> OrbweaverError | None:
        """The first fault of ``checks``; None if all checks pass."""
        return _first_fault(await self.checks())

    async def _checks_with_etcd(self) -> list[HealthCheck]:
        await self._probe()
        return [*self._local_checks(), HealthCheck("etcd", self._store_fault())]

    def _local_checks(self) -> list[HealthCheck]:
        return [
            HealthCheck("fence", self.fenced),
            HealthCheck("serving", self._serving_fault()),
            HealthCheck("writer", self._writer_fault()),
            HealthCheck("view", self._view_fault()),
        ]

    def _serving_fault(self) -> OrbweaverError | None:
        if self.stopping:
            return NotReady("the agent is shutting down", remedy="try again after its restart")
        return None

    def _writer_fault(self) -> OrbweaverError | None:
        if self._writer.epoch:
            return None
        return NotReady(
            "the agent has not opened its event writer yet",
            remedy="try again; if it fails again, check that etcd can be reached",
        )

    def _view_fault(self) -> OrbweaverError | None:
        if self._view.ready:
            return None
        return NotReady(
            "the agent has not read the configuration from etcd yet",
            remedy="try again; if it fails again, check that etcd can be reached",
        )

    def _store_fault(self) -> OrbweaverError | None:
        if not self._watchdog.is_unanswered:
            return alarm_error(self._alarms) if self._alarms else None
        return StoreUnavailable(
            f"etcd did not answer the last call ({self._watchdog.outcome})",
            remedy="check that etcd can be reached and has a leader",
        )

    async def _probe(self) -> None:
        async with self._probe_lock:
            if self._monotonic() - self._probed_at < PROBE_CACHED_S:
                return
            try:
                async with asyncio.timeout(PROBE_S_MAX):
                    await self._store.read([Get(self._keys.head(self._writer.name))])
                    self._alarms = await self._store.alarms()
            except TimeoutError:
                self._watchdog.outcome = "TimeoutError"
            except OrbweaverError as error:
                self._watchdog.outcome = type(error).__name__
            self._probed_at = self._monotonic()


def _first_fault(checks: Sequence[HealthCheck]) -> OrbweaverError | None:
    return next((check.fault for check in checks if check.fault), None)

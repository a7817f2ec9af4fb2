"""Whether this agent can serve, and whether all of it is well.

A request needs an open writer and a view that was loaded; checking that costs nothing. A probe
of readiness also asks etcd, at most once in ``PROBE_CACHED_S``, and every supervised task: one that
ended, or that heard nothing for too long, makes the agent unready, while ADD and DEL go on with
what is there. Health judges this process alone, never a pool.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from core.errors import NotReady, OrbweaverError, StoreUnavailable, WriterFenced
from core.eventstore.alarms import alarmed
from core.eventstore.keys import Keys
from core.eventstore.kv import Get, KeyValueStore
from core.eventstore.writer import Writer
from core.process.supervision import Supervisor
from core.projections.configuration_view import ConfigurationView

PROBE_S_MAX: Final = 3.0
PROBE_CACHED_S: Final = 1.0

_AWAY: Final = frozenset(
    {"StoreUnavailable", "StoreTimeout", "OutcomeUnknown", "CancelledError", "TimeoutError"}
)
"""Outcomes of calls after which nobody knows whether etcd is there."""


class StoreWatchdog:
    """Remembers how the last call to the store ended (a ``CallObserver``)."""

    def __init__(self) -> None:
        self.outcome = "ok"

    @property
    def is_away(self) -> bool:
        """Whether the last call found no etcd."""
        return self.outcome in _AWAY

    def on_call(self, method: str, seconds: float, outcome: str) -> None:
        """See ``CallObserver``."""
        self.outcome = outcome


class Check(NamedTuple):
    """One thing that must be so: ``fault`` None, or what is wrong."""

    name: str
    fault: OrbweaverError | None


class AgentHealth:
    """Knows what is wrong."""

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
        self._probing = asyncio.Lock()
        self.started = False
        self.stopping = False
        self.fenced: WriterFenced | None = None

    def why_not_ready(self) -> OrbweaverError | None:
        """What keeps this agent from serving, by what is known; None for nothing."""
        if self._writer.epoch and self._view.ready and not (self.stopping or self.fenced):
            return None  # every request asks: the common answer costs nothing
        for check in self._known():
            if check.fault is not None:
                return check.fault
        return None

    def why_not_healthy(self) -> OrbweaverError | None:
        """As ``why_not_ready``, and etcd did not answer the last time that anybody asked."""
        return self.why_not_ready() or self._store_fault()

    async def checks(self) -> list[Check]:
        """Everything, etcd probed."""
        tasks = self._supervisor.health()
        served = await self._serving()
        return [*served, *(Check(f"task/{name}", fault) for name, fault in tasks)]

    async def fault(self) -> OrbweaverError | None:
        """The first thing that keeps requests from being served, etcd probed."""
        return _first(await self._serving())

    async def readiness_fault(self) -> OrbweaverError | None:
        """The first of ``checks`` that fails."""
        return _first(await self.checks())

    async def _serving(self) -> list[Check]:
        await self._probe()
        return [*self._known(), Check("etcd", self._store_fault())]

    def _known(self) -> list[Check]:
        return [
            Check("fence", self.fenced),
            Check("serving", self._serving_fault()),
            Check("writer", self._writer_fault()),
            Check("view", self._view_fault()),
        ]

    def _serving_fault(self) -> OrbweaverError | None:
        if self.stopping:
            return NotReady("the agent is shutting down", remedy="try again when it is back")
        return None

    def _writer_fault(self) -> OrbweaverError | None:
        if self._writer.epoch:
            return None
        return NotReady("the writer is not open yet", remedy="check that etcd can be reached")

    def _view_fault(self) -> OrbweaverError | None:
        if self._view.ready:
            return None
        return NotReady(
            "the configuration view has not caught up yet",
            remedy="check that etcd can be reached",
        )

    def _store_fault(self) -> OrbweaverError | None:
        if not self._watchdog.is_away:
            return alarmed(self._alarms) if self._alarms else None
        return StoreUnavailable(
            f"etcd did not answer the last call ({self._watchdog.outcome})",
            remedy="check that etcd can be reached and has a leader",
        )

    async def _probe(self) -> None:
        """Read one key, unless somebody just did; the watchdog learns how it went."""
        async with self._probing:
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


def _first(checks: Sequence[Check]) -> OrbweaverError | None:
    return next((check.fault for check in checks if check.fault), None)

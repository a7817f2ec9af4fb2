"""RDMA counters as Prometheus' text, read anew for every scrape.

Reading and writing the text are a worker thread's, so that no ADD waits for them. Promise: a scrape
waits ``REFRESH_S_MAX`` at most, and then gets what was read last, unless that is too old to be
true; never are two readings made at once. It decides nothing.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from typing import Final

from core.process.supervision import BackgroundTasks
from nodeagent.netlink.namespaces import NetnsExecutor
from nodeagent.rdma.counter_reader import CounterReader
from nodeagent.rdma.samples import samples_of, text_of
from nodeagent.rdma.values import Tenants
from nodeagent.telemetry.metrics import AgentMetrics

REFRESH_S_MAX: Final = 1.0
STALE_S_MAX: Final = 60.0
"""Counters that stand still would be taken for traffic that does."""

_log: Final = logging.getLogger(__name__)


def no_tenants() -> Tenants:
    """Outside Kubernetes nobody says whose a device is."""
    return {}


class RdmaExposition:
    """``text`` is what a scrape gets of one node. ``tenants``: the Pods with devices, by address.

    The reader belongs to it from then on. Make it, and call it, inside the event loop.
    """

    def __init__(
        self,
        node: str,
        reader: CounterReader,
        tenants: Callable[[], Tenants],
        metrics: AgentMetrics,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._node = node
        self._reader = reader
        self._tenants = tenants
        self._monotonic = monotonic
        self._tasks = BackgroundTasks("RDMA counters")
        self._reading: asyncio.Task[None] | None = None
        self._text = b""
        self._read_at = 0.0
        self._faults: Mapping[str, str] = {}
        self._failures = 0
        self._left_out = 0
        metrics.counter(
            "rdma_reading_failures",
            "Network namespaces whose RDMA counters could not be read, and readings that crashed",
            lambda: self._failures,
        )
        metrics.gauge(
            "rdma_samples_left_out",
            "Samples of RDMA above the bound of one scrape",
            lambda: self._left_out,
        )

    @classmethod
    def over(
        cls,
        node: str,
        executor: NetnsExecutor,
        tenants: Callable[[], Tenants] | None,
        metrics: AgentMetrics,
    ) -> RdmaExposition:
        """Of the machine itself; ``tenants`` None: outside Kubernetes."""
        return cls(node, CounterReader(executor), tenants or no_tenants, metrics)

    async def text(self) -> bytes:
        """All samples; none when nothing was read for too long."""
        if self._reading is None or self._reading.done():
            self._reading = self._tasks.start(self._refresh())
        await asyncio.wait((self._reading,), timeout=REFRESH_S_MAX)
        is_stale = self._monotonic() - self._read_at > STALE_S_MAX
        return b"" if is_stale else self._text

    async def close(self) -> None:
        """Let a reading come to its end, within bounds: it needs what is closed next."""
        if self._reading is not None:
            await asyncio.wait((self._reading,), timeout=REFRESH_S_MAX)

    async def _refresh(self) -> None:
        try:
            tenants = self._tenants()
            text, left_out, faults = await asyncio.to_thread(self._read, tenants)
        except Exception:
            self._failures += 1  # the task's end is logged; the next scrape reads anew
            raise
        for what, why in faults.items():
            if self._faults.get(what) != why:
                _log.warning("no RDMA counters of %s: %s", what, why)
        self._failures += len(faults)
        self._text, self._left_out, self._faults = text, left_out, faults
        self._read_at = self._monotonic()

    def _read(self, tenants: Tenants) -> tuple[bytes, int, dict[str, str]]:
        found = self._reader.read()
        samples = samples_of(self._node, found.places, tenants)
        return text_of(samples), samples.left_out, found.faults

"""Reads RDMA counters for every scrape, and returns them as Prometheus text.

A worker thread reads the counters, one reading at a time, so no ADD waits for a reading.
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
from nodeagent.rdma.counter_samples import samples_of, text_of
from nodeagent.rdma.rdma_ports import RdmaPods
from nodeagent.telemetry.metrics import AgentMetrics

REFRESH_S_MAX: Final = 1.0
"""A scrape waits this long, then returns the last complete reading."""

STALE_S_MAX: Final = 60.0
"""Older readings are not returned: unchanged counters look like stopped traffic."""

_log: Final = logging.getLogger(__name__)


def no_rdma_pods() -> RdmaPods:
    """No Pods: without Kubernetes it is unknown which Pod uses a device."""
    return {}


class RdmaExposition:
    """The RDMA metrics of one node. Create it inside the event loop."""

    def __init__(
        self,
        node: str,
        reader: CounterReader,
        rdma_pods: Callable[[], RdmaPods],
        metrics: AgentMetrics,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._node = node
        self._reader = reader
        self._rdma_pods = rdma_pods
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
            "Failed readings of RDMA counters, of one network namespace or as a whole",
            lambda: self._failures,
        )
        metrics.gauge(
            "rdma_samples_left_out",
            "RDMA samples that the last scrape left out: one scrape has at most 50,000",
            lambda: self._left_out,
        )

    @classmethod
    def for_node(
        cls,
        node: str,
        executor: NetnsExecutor,
        rdma_pods: Callable[[], RdmaPods] | None,
        metrics: AgentMetrics,
    ) -> RdmaExposition:
        """The metrics of this node. ``rdma_pods`` None: without Kubernetes."""
        return cls(node, CounterReader(executor), rdma_pods or no_rdma_pods, metrics)

    async def text(self) -> bytes:
        """All samples; none if the last reading is too old."""
        if self._reading is None or self._reading.done():
            self._reading = self._tasks.start(self._refresh())
        await asyncio.wait((self._reading,), timeout=REFRESH_S_MAX)
        is_stale = self._monotonic() - self._read_at > STALE_S_MAX
        return b"" if is_stale else self._text

    async def close(self) -> None:
        """Wait up to ``REFRESH_S_MAX`` for a running reading."""
        if self._reading is not None:
            await asyncio.wait((self._reading,), timeout=REFRESH_S_MAX)

    async def _refresh(self) -> None:
        try:
            rdma_pods = self._rdma_pods()
            text, left_out, faults = await asyncio.to_thread(self._read, rdma_pods)
        except Exception:
            self._failures += 1  # ``BackgroundTasks`` logs the error
            raise
        for namespace, why in faults.items():
            if self._faults.get(namespace) != why:
                _log.warning("cannot read the RDMA counters of %s: %s", namespace, why)
        self._failures += len(faults)
        self._text, self._left_out, self._faults = text, left_out, faults
        self._read_at = self._monotonic()

    def _read(self, rdma_pods: RdmaPods) -> tuple[bytes, int, dict[str, str]]:
        reading = self._reader.read()
        samples = samples_of(self._node, reading.namespaces, rdma_pods)
        return text_of(samples), samples.left_out, reading.faults

"""What is due when: one time-ordered heap for all executions of a worker.

The durable truth are the timers and deadlines in the heads; the heap is made from them when a shard
is loaded and kept up by every commit. It sleeps until the first entry, so that ten thousand
sleeping executions cost nothing. A cancelled alarm drops at once what it would ring; the heap is
rebuilt when more than half of it is cancelled.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import math
from collections.abc import Callable

from workflows.engine.clock import Clock

CANCELLED_MIN = 64
"""Cancelled alarms below which the heap is not rebuilt."""

Ring = Callable[[], None]


class Deadline:
    """One alarm; ``cancel`` takes it back."""

    __slots__ = ("_alarms", "ring")

    def __init__(self, alarms: Deadlines, ring: Ring) -> None:
        self._alarms = alarms
        self.ring: Ring | None = ring

    def cancel(self) -> None:
        """Never ring. One that has rung stays as it is."""
        if self.ring is not None:
            self.ring = None
            self._alarms.cancelled()


class Deadlines:
    """Rings functions at their time."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._heap: list[tuple[float, int, Deadline]] = []
        self._cancelled = 0
        self._numbers = itertools.count()
        self._sooner = asyncio.Event()

    def __len__(self) -> int:
        return len(self._heap)

    def after(self, seconds: float, ring: Ring) -> Deadline:
        """Ring after this time."""
        alarm = Deadline(self, ring)
        due = self._clock.monotonic() + max(seconds, 0.0)
        first = self._heap[0][0] if self._heap else math.inf
        heapq.heappush(self._heap, (due, next(self._numbers), alarm))
        if due < first:
            self._sooner.set()
        return alarm

    def cancelled(self) -> None:
        """One more entry of the heap is of no use; rebuild the heap when most of it is."""
        self._cancelled += 1
        if self._cancelled >= CANCELLED_MIN and self._cancelled * 2 > len(self._heap):
            self._heap = [entry for entry in self._heap if entry[2].ring is not None]
            heapq.heapify(self._heap)
            self._cancelled = 0

    async def run(self) -> None:
        """Ring for ever."""
        while True:
            now = self._clock.monotonic()
            while self._heap and self._heap[0][0] <= now:
                self._ring(heapq.heappop(self._heap)[2])
            self._sooner.clear()
            pause = self._heap[0][0] - now if self._heap else math.inf
            await self._clock.wait(self._sooner, pause)

    def _ring(self, alarm: Deadline) -> None:
        ring, alarm.ring = alarm.ring, None
        if ring is None:
            self._cancelled -= 1
        else:
            ring()

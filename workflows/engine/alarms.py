"""What is due when: one time-ordered heap for all executions of a worker.

The durable truth are the timers and deadlines in the heads; the heap is made from them when a shard
is loaded and kept up by every commit. It sleeps until the first entry, so that ten thousand
sleeping executions cost nothing. An entry whose timer was cancelled stays and rings in vain.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import math
from collections.abc import Callable

from workflows.engine.clock import Clock

SLEEP_S_MAX = 3600.0
"""The longest uninterrupted sleep."""

Ring = Callable[[], None]


class Alarms:
    """Rings functions at their time."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._heap: list[tuple[float, int, Ring]] = []
        self._numbers = itertools.count()
        self._sooner = asyncio.Event()

    def __len__(self) -> int:
        return len(self._heap)

    def after(self, seconds: float, ring: Ring) -> None:
        """Ring after this time."""
        due = self._clock.monotonic() + max(seconds, 0.0)
        first = self._heap[0][0] if self._heap else math.inf
        heapq.heappush(self._heap, (due, next(self._numbers), ring))
        if due < first:
            self._sooner.set()

    async def run(self) -> None:
        """Ring for ever."""
        while True:
            now = self._clock.monotonic()
            while self._heap and self._heap[0][0] <= now:
                heapq.heappop(self._heap)[2]()
            self._sooner.clear()
            pause = self._heap[0][0] - now if self._heap else SLEEP_S_MAX
            await self._clock.wait(self._sooner, min(pause, SLEEP_S_MAX))

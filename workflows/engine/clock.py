"""The clocks of the engine, and the deadlines of a worker.

Recorded times are from the wall clock. Waits use the steady clock, so that timers fire on time even
if the wall clock is set.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import math
from collections.abc import Callable
from time import monotonic, time_ns
from typing import NamedTuple, Protocol


class Clock(Protocol):
    """A wall clock and a steady clock."""

    def now_ms(self) -> int:
        """Milliseconds since 1970, by the wall clock."""
        ...

    def monotonic(self) -> float:
        """Seconds of a clock that never decreases."""
        ...

    async def wait(self, event: asyncio.Event, seconds: float) -> None:
        """Return when the event is set, or after ``seconds`` of the steady clock.

        ``math.inf``: wait for the event alone.
        """
        ...


class Instant(NamedTuple):
    """One instant by both clocks."""

    wall_ms: int
    steady_s: float


def instant(clock: Clock) -> Instant:
    """The present instant."""
    return Instant(clock.now_ms(), clock.monotonic())


class SystemClock:
    """The machine's clocks."""

    def now_ms(self) -> int:
        """See ``Clock.now_ms``."""
        return time_ns() // 1_000_000

    def monotonic(self) -> float:
        """See ``Clock.monotonic``."""
        return monotonic()

    async def wait(self, event: asyncio.Event, seconds: float) -> None:
        """See ``Clock.wait``."""
        try:
            async with asyncio.timeout(max(seconds, 0) if math.isfinite(seconds) else None):
                await event.wait()
        except TimeoutError:
            return


CANCELLED_MIN = 64
"""The heap is rebuilt only if it has at least this many cancelled deadlines."""

OnDue = Callable[[], None]


class Deadline:
    """One deadline. ``on_due``: the function to call, None after the call or ``cancel``."""

    __slots__ = ("_deadlines", "on_due")

    def __init__(self, deadlines: Deadlines, on_due: OnDue) -> None:
        self._deadlines = deadlines
        self.on_due: OnDue | None = on_due

    def cancel(self) -> None:
        """Cancel the deadline. Does nothing once it is due."""
        if self.on_due is not None:
            self.on_due = None
            self._deadlines.note_cancelled()


class Deadlines:
    """Calls functions when they are due, by the steady clock.

    All executions of a worker share one heap and one task, so sleeping executions cost no CPU.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._heap: list[tuple[float, int, Deadline]] = []
        self._cancelled = 0
        self._numbers = itertools.count()
        self._changed = asyncio.Event()

    def __len__(self) -> int:
        return len(self._heap)

    def after(self, seconds: float, on_due: OnDue) -> Deadline:
        """Call ``on_due`` after these seconds, unless the deadline is cancelled."""
        deadline = Deadline(self, on_due)
        due = self._clock.monotonic() + max(seconds, 0.0)
        first = self._heap[0][0] if self._heap else math.inf
        heapq.heappush(self._heap, (due, next(self._numbers), deadline))
        if due < first:
            self._changed.set()
        return deadline

    def note_cancelled(self) -> None:
        """Count a cancelled entry; rebuild the heap when most entries are cancelled."""
        self._cancelled += 1
        if self._cancelled >= CANCELLED_MIN and self._cancelled * 2 > len(self._heap):
            self._heap = [entry for entry in self._heap if entry[2].on_due is not None]
            heapq.heapify(self._heap)
            self._cancelled = 0

    async def run(self) -> None:
        """Call due functions until this task is cancelled."""
        while True:
            now = self._clock.monotonic()
            while self._heap and self._heap[0][0] <= now:
                self._call(heapq.heappop(self._heap)[2])
            self._changed.clear()
            pause = self._heap[0][0] - now if self._heap else math.inf
            await self._clock.wait(self._changed, pause)

    def _call(self, deadline: Deadline) -> None:
        on_due, deadline.on_due = deadline.on_due, None
        if on_due is None:
            self._cancelled -= 1
        else:
            on_due()

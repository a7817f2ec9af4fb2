"""Time as the engine knows it: the wall clock for what is recorded, a steady one for waiting.

Timers wait by the steady clock, so a wall clock that jumps fires none of them early or late; what
is recorded in one history never goes back (``Draft.now_ms``).
"""

from __future__ import annotations

import asyncio
import math
import time
from typing import NamedTuple, Protocol


class Clock(Protocol):
    """What the engine asks of time."""

    def now_ms(self) -> int:
        """Milliseconds since 1970, by the wall clock."""
        ...

    def monotonic(self) -> float:
        """Seconds of a clock that never goes back."""
        ...

    async def wait(self, event: asyncio.Event, seconds: float) -> None:
        """Return when the event is set, or after ``seconds`` of the steady clock.

        ``math.inf`` waits for the event alone.
        """
        ...


class Instant(NamedTuple):
    """One moment by both clocks: what was recorded then, and how long ago that is."""

    wall_ms: int
    steady_s: float


def instant(clock: Clock) -> Instant:
    """The present one."""
    return Instant(clock.now_ms(), clock.monotonic())


class SystemClock:
    """The machine's clocks."""

    def now_ms(self) -> int:
        """Milliseconds since 1970."""
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        """Seconds since some start."""
        return time.monotonic()

    async def wait(self, event: asyncio.Event, seconds: float) -> None:
        """Return when the event is set, or after ``seconds``; ``math.inf`` waits for the event."""
        try:
            async with asyncio.timeout(max(seconds, 0) if math.isfinite(seconds) else None):
                await event.wait()
        except TimeoutError:
            return

"""The clocks of the engine: the wall clock for recorded times, the steady clock for waits.

Timers wait by the steady clock, so a wall clock that is set fires no timer early or late; times in
one history do not decrease (``HistoryDraft.now_ms``).
"""

from __future__ import annotations

import asyncio
import math
from time import monotonic, time_ns
from typing import NamedTuple, Protocol


class Clock(Protocol):
    """A wall clock and a steady clock."""

    def now_ms(self) -> int:
        """Milliseconds since 1970, by the wall clock."""
        ...

    def monotonic(self) -> float:
        """Seconds of a clock that does not go back."""
        ...

    async def wait(self, event: asyncio.Event, seconds: float) -> None:
        """Return when the event is set, or after ``seconds`` of the steady clock.

        ``math.inf`` waits for the event alone.
        """
        ...


class Instant(NamedTuple):
    """One moment by both clocks."""

    wall_ms: int
    steady_s: float


def instant(clock: Clock) -> Instant:
    """The present moment."""
    return Instant(clock.now_ms(), clock.monotonic())


class SystemClock:
    """The machine's clocks."""

    def now_ms(self) -> int:
        """Milliseconds since 1970."""
        return time_ns() // 1_000_000

    def monotonic(self) -> float:
        """Seconds since some start."""
        return monotonic()

    async def wait(self, event: asyncio.Event, seconds: float) -> None:
        """Return when the event is set, or after ``seconds``; ``math.inf`` waits for the event."""
        try:
            async with asyncio.timeout(max(seconds, 0) if math.isfinite(seconds) else None):
                await event.wait()
        except TimeoutError:
            return

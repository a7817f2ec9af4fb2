"""A test's clock that jumps to the next awaited time, so that timers take no real time.

While a task waits for anything else (a socket, a thread, ``asyncio.sleep``), the clock does not
advance.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Collection
from typing import Any, NamedTuple


class _Sleeper(NamedTuple):
    due_ms: float
    event: asyncio.Event
    due_future: asyncio.Future[None]


class SkippingClock:
    """Starts at ``start_ms``, in milliseconds since 1970. A task can have one wait at a time."""

    def __init__(self, start_ms: int) -> None:
        self._start_ms = start_ms
        self._now_ms = start_ms
        self._sleepers: dict[asyncio.Task[Any], _Sleeper] = {}
        self._sleepers_changed = asyncio.Event()

    def now_ms(self) -> int:
        """Milliseconds since 1970."""
        return self._now_ms

    def monotonic(self) -> float:
        """Seconds since the start."""
        return (self._now_ms - self._start_ms) / 1000

    async def wait(self, event: asyncio.Event, seconds: float) -> None:
        """Wait until the event is set, or the clock has advanced by ``seconds``."""
        if event.is_set() or seconds <= 0:
            return
        pause_ms = max(round(seconds * 1000), 1) if math.isfinite(seconds) else math.inf
        due_future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        task = asyncio.current_task()
        assert task is not None, "a coroutine runs in a task"
        self._sleepers[task] = _Sleeper(self._now_ms + pause_ms, event, due_future)
        self._sleepers_changed.set()
        event_set = asyncio.ensure_future(event.wait())
        awaited: set[asyncio.Future[Any]] = {due_future, event_set}
        try:
            await asyncio.wait(awaited, return_when=asyncio.FIRST_COMPLETED)
        finally:
            event_set.cancel()
            self._sleepers.pop(task, None)

    def is_asleep(self, task: asyncio.Task[Any]) -> bool:
        """Whether only this clock can wake the task."""
        sleeper = self._sleepers.get(task)
        return (
            sleeper is not None
            and not sleeper.event.is_set()
            and not sleeper.due_future.done()
            and not task.cancelling()
        )

    @property
    def is_waking(self) -> bool:
        """Whether a task that waited for this clock is about to continue."""
        return not all(self.is_asleep(task) for task in self._sleepers)

    def next_due_ms(self) -> int | None:
        """The earliest time that a task waits for, or None."""
        asleep = (
            sleeper.due_ms for task, sleeper in self._sleepers.items() if self.is_asleep(task)
        )
        due_ms = min(asleep, default=math.inf)
        return None if math.isinf(due_ms) else round(due_ms)

    def move_to(self, now_ms: int) -> None:
        """Advance the clock, never back, and wake due tasks."""
        self._now_ms = max(self._now_ms, now_ms)
        for sleeper in self._sleepers.values():
            if sleeper.due_ms <= self._now_ms and not sleeper.due_future.done():
                sleeper.due_future.set_result(None)

    async def until_idle(self, tasks: Collection[asyncio.Task[Any]]) -> None:
        """Wait until one of these tasks ends, or a task begins to wait for this clock."""
        self._sleepers_changed.clear()
        changed = asyncio.ensure_future(self._sleepers_changed.wait())
        await asyncio.wait({changed, *tasks}, return_when=asyncio.FIRST_COMPLETED)
        changed.cancel()

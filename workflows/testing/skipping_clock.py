"""A clock that stands still while anybody is at work, and else jumps to the next awaited moment.

It is the engine's clock (``workflows.engine.clock``) in the test environment: pauses, timeouts and
queues of activities are the engine's own, and cost no time. A task that waits for anything else
(a socket, a thread, ``asyncio.sleep``) is at work, and the clock waits for it.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Collection
from typing import Any, NamedTuple


class _Sleeper(NamedTuple):
    due_ms: float
    event: asyncio.Event
    moment: asyncio.Future[None]


class SkippedClock:
    """Begins at ``start_ms``. One waiting place for each task."""

    def __init__(self, start_ms: int) -> None:
        self._start_ms = start_ms
        self._now_ms = start_ms
        self._sleepers: dict[asyncio.Task[Any], _Sleeper] = {}
        self._stirred = asyncio.Event()

    def now_ms(self) -> int:
        """Milliseconds since 1970."""
        return self._now_ms

    def monotonic(self) -> float:
        """Seconds since the start."""
        return (self._now_ms - self._start_ms) / 1000

    async def wait(self, event: asyncio.Event, seconds: float) -> None:
        """Return when the event is set, or when the clock has jumped over ``seconds``."""
        if event.is_set() or seconds <= 0:
            return
        pause_ms = max(round(seconds * 1000), 1) if math.isfinite(seconds) else math.inf
        moment: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        task = asyncio.current_task()
        assert task is not None, "a coroutine runs in a task"
        self._sleepers[task] = _Sleeper(self._now_ms + pause_ms, event, moment)
        self._stirred.set()
        other = asyncio.ensure_future(event.wait())
        either: set[asyncio.Future[Any]] = {moment, other}
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        finally:
            other.cancel()
            self._sleepers.pop(task, None)

    def is_asleep(self, task: asyncio.Task[Any]) -> bool:
        """Whether only this clock can wake the task."""
        sleeper = self._sleepers.get(task)
        return (
            sleeper is not None
            and not sleeper.event.is_set()
            and not sleeper.moment.done()
            and not task.cancelling()
        )

    def next_due_ms(self) -> int | None:
        """The first moment that somebody waits for."""
        asleep = (each.due_ms for task, each in self._sleepers.items() if self.is_asleep(task))
        due_ms = min(asleep, default=math.inf)
        return None if math.isinf(due_ms) else round(due_ms)

    def move_to(self, now_ms: int) -> None:
        """Jump, never back, and wake those whose time has come."""
        self._now_ms = max(self._now_ms, now_ms)
        for sleeper in self._sleepers.values():
            if sleeper.due_ms <= self._now_ms and not sleeper.moment.done():
                sleeper.moment.set_result(None)

    async def rest(self, tasks: Collection[asyncio.Task[Any]]) -> None:
        """Return when one of these tasks, all of them at work, has ended or fallen asleep."""
        self._stirred.clear()
        stirred = asyncio.ensure_future(self._stirred.wait())
        await asyncio.wait({stirred, *tasks}, return_when=asyncio.FIRST_COMPLETED)
        stirred.cancel()

"""Concurrent tasks: when one fails, its error is raised and none of the others is left running.

Also one task for several callers that request the same at once, and the event loop of the daemons.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Hashable, Sequence
from contextlib import suppress
from typing import Any, Final, Generic, TypeVar

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")

Work = Coroutine[Any, Any, object]


async def until_first(*works: Work) -> None:
    """Run all until one of them ends; stop the others and raise what it raised."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        await _stop(tasks)
    for task in done:
        task.result()


async def until_all(*works: Work) -> None:
    """Run all to their ends; when one fails, stop the others and raise what it raised."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        await asyncio.gather(*tasks)
    finally:
        await _stop(tasks)


class SharedWork(Generic[K, T]):
    """Runs one call at a time for each key; callers in the meantime get its result or error.

    Nothing is cached afterwards. A cancelled caller does not cancel the call for the others; the
    last cancelled one does.
    """

    def __init__(self) -> None:
        self._under_way: dict[K, _Flight[T]] = {}

    async def join(self, key: K, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """The result of the running work for this key, or of new work."""
        flight = self._under_way.get(key)
        if flight is None or flight.task.done():
            flight = self._under_way[key] = _Flight(asyncio.ensure_future(work()))
        flight.callers += 1
        try:
            await asyncio.wait([flight.task])
        finally:
            flight.callers -= 1
            if not flight.callers:
                flight.task.cancel()
            if self._under_way.get(key) is flight and not flight.callers:
                del self._under_way[key]
        return flight.task.result()


class _Flight(Generic[T]):
    __slots__ = ("callers", "task")

    def __init__(self, task: asyncio.Future[T]) -> None:
        self.task = task
        self.callers = 0


async def _stop(tasks: Sequence[asyncio.Future[object]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


TICK_SLACK_S: Final = 0.005
"""A timer may be early by its clock's resolution: it must not count as one for the same tick."""


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """What makes uvloop's loop, for ``asyncio.Runner``; None, which is asyncio's own, without it.

    It needs less processor time for the same work, and not a quarter of a megabyte for every TLS
    connection.
    """
    with suppress(ImportError):
        import uvloop  # noqa: PLC0415  # it may be missing

        return uvloop.new_event_loop
    return None


def until_tick_s(period_s: float) -> float:
    """Seconds until the loop's clock is a whole multiple of a period: about the period at most.

    What a process does regularly it does in the same moments, so that an idle one wakes once for
    all: leases whose periods are 1 and 2 s, and watches with one of 7 s.
    """
    now = asyncio.get_running_loop().time()
    return period_s - (now + TICK_SLACK_S) % period_s + TICK_SLACK_S

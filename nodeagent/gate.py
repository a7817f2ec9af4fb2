"""The gate every request passes: a bound on their number, a deadline for each, the drain.

Promise: a request that is let in is counted until it is over, and is over by its deadline; what it
had not committed by then is withdrawn. Once closing, nobody is let in. It must never know what a
request does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Final, TypeVar

from core.errors import DeadlineExceeded, NotReady, Overloaded

T = TypeVar("T")

REQUESTS_MAX: Final = 1_000
"""Requests under way or waiting, of all doors together."""

ADD_DEADLINE_S: Final = 30.0
"""Below the executables' 100 s and the runtimes' two minutes, so that the caller hears why."""
BOUND_ADD_DEADLINE_S: Final = 95.0
"""With a network provider, which is not asked when less than 48 s are left for its answer."""
DEL_DEADLINE_S: Final = 30.0
CHECK_DEADLINE_S: Final = 15.0
STATUS_DEADLINE_S: Final = 8.0
GC_DEADLINE_S: Final = 90.0
READ_DEADLINE_S: Final = 15.0
"""Questions over HTTP that change nothing."""


class Gate:
    """Counts and bounds what is under way."""

    def __init__(self, requests_max: int = REQUESTS_MAX) -> None:
        self._requests_max = requests_max
        self._idle = asyncio.Event()
        self._idle.set()
        self._closing = False
        self._staying = 0
        self.under_way = 0

    async def run(self, work: Callable[[], Awaitable[T]], deadline_s: float) -> T:
        """Do the work. Raises Overloaded, NotReady, DeadlineExceeded, and what the work raises."""
        self._enter()
        deadline = asyncio.timeout(deadline_s)
        try:
            async with deadline:
                return await work()
        except TimeoutError:
            if not deadline.expired():
                raise  # of the work itself, such as ETIMEDOUT
            raise DeadlineExceeded(
                f"not done within {deadline_s:g} s",
                remedy="what was not committed is withdrawn; the request can be repeated",
            ) from None
        finally:
            self._leave()

    @contextmanager
    def staying(self) -> Iterator[None]:
        """While a request does one thing after the other: the drain waits for all of it."""
        self._staying += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._staying -= 1
            self._note_idle()

    async def drain(self, seconds: float) -> bool:
        """Let nobody in any more and wait; False when somebody is still there after ``seconds``."""
        self._closing = True
        try:
            async with asyncio.timeout(seconds):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True

    def _enter(self) -> None:
        if self._closing:
            raise NotReady("the agent is shutting down", remedy="try again when it is back")
        if self.under_way >= self._requests_max:
            raise Overloaded(
                "failed to queue correctly: queue is full with a maximum length of"
                f" {self._requests_max}",
                subject="requests",
                remedy="try again; if it stays full, etcd is too slow for this load",
            )
        self.under_way += 1
        self._idle.clear()

    def _leave(self) -> None:
        self.under_way -= 1
        self._note_idle()

    def _note_idle(self) -> None:
        if not self.under_way and not self._staying:
            self._idle.set()

"""The gate every request passes: a bound on their number, a deadline for each, the drain.

Promise: a request that is let in is counted until it is over, and is over by its deadline; what it
had not committed by then is withdrawn. Once closing, nobody is let in. It must never know what a
request does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Final

from core.errors import DeadlineExceeded, NotReady, Overloaded

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
        self._held = 0
        self._deadlines: dict[float, DeadlineSet] = {}
        self.under_way = 0

    def admit(self, deadline_s: float) -> AdmittedRequest:
        """For one request, as a context manager that lets it in and bounds its time.

        Entering raises Overloaded, NotReady; leaving raises DeadlineExceeded in place of the
        cancellation that the deadline caused.
        """
        deadlines = self._deadlines.get(deadline_s)
        if deadlines is None:
            deadlines = self._deadlines[deadline_s] = DeadlineSet(deadline_s)
        return AdmittedRequest(self, deadlines)

    @contextmanager
    def hold_open(self) -> Iterator[None]:
        """While a request does one thing after the other: the drain waits for all of it."""
        self._held += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._held -= 1
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

    def enter(self) -> None:
        """Let one request in. Raises Overloaded, NotReady."""
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

    def leave(self) -> None:
        """One request is over."""
        self.under_way -= 1
        self._note_idle()

    def _note_idle(self) -> None:
        if not self.under_way and not self._held:
            self._idle.set()


class AdmittedRequest:
    """One request inside the gate; what ``asyncio.timeout`` does, without a timer of its own."""

    __slots__ = ("_cancelling", "_deadlines", "_gate", "_task", "ends_at", "has_expired")

    def __init__(self, gate: Gate, deadlines: DeadlineSet) -> None:
        self._gate = gate
        self._deadlines = deadlines
        self._cancelling = 0
        self._task: asyncio.Task[Any] | None = None
        self.ends_at = 0.0
        self.has_expired = False

    def __enter__(self) -> None:
        self._gate.enter()
        task = asyncio.current_task()
        assert task is not None, "requests are served by tasks"
        self._task = task
        self._cancelling = task.cancelling()
        self._deadlines.add(self)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._deadlines.discard(self)
        self._gate.leave()
        if not self.has_expired or self._task is None:
            return
        # As in ``asyncio.timeout``: a cancellation by anybody else remains one.
        if self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise DeadlineExceeded(
                f"not done within {self._deadlines.seconds:g} s",
                remedy="what was not committed is withdrawn; the request can be repeated",
            ) from None

    def expire(self) -> None:
        """The deadline has come: cancel the request's task."""
        self.has_expired = True
        if self._task is not None:
            self._task.cancel()


class DeadlineSet:
    """Requests with one duration, so that the first to come is the first to expire.

    One timer serves them all: a timer for each request costs more than counting it.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._pending: dict[AdmittedRequest, None] = {}
        self._timer: asyncio.TimerHandle | None = None

    def add(self, request: AdmittedRequest) -> None:
        """From now on its time runs."""
        loop = asyncio.get_running_loop()
        request.ends_at = loop.time() + self.seconds
        self._pending[request] = None
        if self._timer is None:
            self._timer = loop.call_at(request.ends_at, self._expire)

    def discard(self, request: AdmittedRequest) -> None:
        """It is over."""
        self._pending.pop(request, None)

    def _expire(self) -> None:
        """End what is late, and wait for the next one, if there is one."""
        self._timer = None
        loop = asyncio.get_running_loop()
        while self._pending:
            first = next(iter(self._pending))
            if first.ends_at > loop.time():
                self._timer = loop.call_at(first.ends_at, self._expire)
                return
            del self._pending[first]
            first.expire()

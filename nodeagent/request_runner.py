"""Limits the number and duration of requests, and makes a DEL wait for its container's ADDs.

A runtime may give up on an ADD and send a DEL. If the ADD then committed after the DEL, the ADD's
address would stay allocated. So a DEL waits for ADDs in progress, and an ADD starts only if its
caller is still connected. No await separates this check from counting the ADD as in progress.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Final, Self

from core.allocation.add_request import HasHungUp, never_hung_up
from core.errors import CallerGone, DeadlineExceeded, NotReady, Overloaded
from nodeagent.telemetry.metrics import WorkCounts

REQUESTS_MAX: Final = 1_000
"""Requests of all servers together."""

ADD_DEADLINE_S: Final = 30.0
"""CNI executables wait 100 s, container runtimes 120 s."""

BOUND_ADD_DEADLINE_S: Final = 95.0
"""For an ADD whose addresses a network provider binds."""

DEL_DEADLINE_S: Final = 30.0
CHECK_DEADLINE_S: Final = 15.0
STATUS_DEADLINE_S: Final = 8.0
GC_DEADLINE_S: Final = 90.0
READ_DEADLINE_S: Final = 15.0
"""For an HTTP request that only reads."""


def require_caller(has_hung_up: HasHungUp) -> None:
    """Raise CallerGone if the caller has closed its connection."""
    if has_hung_up():
        raise CallerGone(
            "the caller closed its connection before its request started",
            remedy="nothing was changed; repeat the request if it is still needed",
        )


class RequestRunner:
    """Admits, limits and orders requests."""

    def __init__(self, requests_max: int = REQUESTS_MAX) -> None:
        self._requests_max = requests_max
        self._idle = asyncio.Event()
        self._draining = False
        self._hold_count = 0
        self._deadlines: dict[float, DeadlineSet] = {}
        self._running_adds: dict[str, int] = {}
        self._adds_ended: dict[str, asyncio.Event] = {}
        self.requests_under_way = 0

    def admit(self, deadline_s: float) -> RunningRequest:
        """A context manager that admits one request, and cancels it at its deadline.

        Entering raises Overloaded, NotReady. Leaving raises DeadlineExceeded after the deadline.
        """
        return RunningRequest(self, self._deadlines_of(deadline_s))

    def measure(self, deadline_s: float, work: WorkCounts, arrived: float) -> RunningRequest:
        """Like ``admit``, but count the duration and result in ``work``.

        ``arrived``: the request's arrival, by ``time.perf_counter``.
        """
        return RunningRequest(self, self._deadlines_of(deadline_s), work, arrived)

    def run_add(
        self,
        deadline_s: float,
        work: WorkCounts,
        arrived: float,
        container: str,
        has_hung_up: HasHungUp,
    ) -> RunningRequest:
        """Like ``measure``, but the container's DELs wait until the request ends.

        Enter the returned context manager without an await after this call. Raises CallerGone.
        """
        require_caller(has_hung_up)
        return RunningRequest(self, self._deadlines_of(deadline_s), work, arrived, container)

    @contextmanager
    def hold(self, container: str, has_hung_up: HasHungUp = never_hung_up) -> Iterator[None]:
        """Make ``drain`` and the container's DELs wait. Raises CallerGone.

        For an ADD that allocates several times.
        """
        require_caller(has_hung_up)
        self.begin_add(container)
        self._hold_count += 1
        try:
            yield
        finally:
            self._hold_count -= 1
            self.end_add(container)
            if self._draining:
                self._set_if_idle()

    async def wait_for_adds(self, container: str) -> None:
        """Wait until the container has no ADD in progress."""
        while container in self._running_adds:
            await self._adds_ended.setdefault(container, asyncio.Event()).wait()

    async def drain(self, seconds: float) -> bool:
        """Admit no more requests, and wait; False if some still run after ``seconds``."""
        self._draining = True
        self._set_if_idle()
        try:
            async with asyncio.timeout(seconds):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True

    def enter(self) -> None:
        """Count one request. Raises Overloaded, NotReady."""
        if self._draining:
            raise NotReady("the agent is shutting down", remedy="try again when it is back")
        if self.requests_under_way >= self._requests_max:
            raise Overloaded(
                "failed to queue correctly: queue is full with a maximum length of"
                f" {self._requests_max}",
                subject="requests",
                remedy="try again; if the queue stays full, etcd is too slow for this load",
            )
        self.requests_under_way += 1

    def leave(self) -> None:
        """Count the end of one request."""
        self.requests_under_way -= 1
        if self._draining:
            self._set_if_idle()

    def begin_add(self, container: str) -> None:
        """Count one more ADD of the container."""
        self._running_adds[container] = self._running_adds.get(container, 0) + 1

    def end_add(self, container: str) -> None:
        """Count the end of one ADD. After the last ADD, the container's DELs continue."""
        still_running = self._running_adds[container] - 1
        if still_running:
            self._running_adds[container] = still_running
            return
        del self._running_adds[container]
        ended = self._adds_ended.pop(container, None)
        if ended is not None:
            ended.set()

    def _deadlines_of(self, deadline_s: float) -> DeadlineSet:
        deadlines = self._deadlines.get(deadline_s)
        if deadlines is None:
            deadlines = self._deadlines[deadline_s] = DeadlineSet(deadline_s)
        return deadlines

    def _set_if_idle(self) -> None:
        if not self.requests_under_way and not self._hold_count:
            self._idle.set()


class RunningRequest:
    """One request: admitted on entering, cancelled at its deadline.

    ``work`` None: not counted. ``container``: "" unless the request is an ADD. The handler sets
    ``tries``.
    """

    __slots__ = (
        "_arrived",
        "_cancelling",
        "_container",
        "_deadlines",
        "_runner",
        "_started",
        "_task",
        "_work",
        "ends_at",
        "has_expired",
        "tries",
    )

    def __init__(
        self,
        runner: RequestRunner,
        deadlines: DeadlineSet,
        work: WorkCounts | None = None,
        arrived: float = 0.0,
        container: str = "",
    ) -> None:
        self._runner = runner
        self._deadlines = deadlines
        self._work = work
        self._arrived = arrived
        self._container = container
        self._started = 0.0
        self._cancelling = 0
        self._task: asyncio.Task[Any] | None = None
        self.ends_at = 0.0
        self.has_expired = False
        self.tries = 0

    def __enter__(self) -> Self:
        self._started = time.perf_counter()
        try:
            self._runner.enter()
        except (Overloaded, NotReady) as error:
            self._record(error)
            raise
        if self._container:
            self._runner.begin_add(self._container)
        loop = asyncio.get_running_loop()
        task = asyncio.current_task(loop)
        assert task is not None, "requests are served by tasks"
        self._task = task
        self._cancelling = task.cancelling()
        self._deadlines.add(self, loop)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._deadlines.discard(self)
        self._runner.leave()
        if self._container:
            self._runner.end_add(self._container)
        exceeded = self._exceeded(kind) if self.has_expired else None
        self._record(exceeded or error)
        if exceeded is not None:
            raise exceeded from None

    def expire(self) -> None:
        """Cancel the request's task."""
        self.has_expired = True
        if self._task is not None:
            self._task.cancel()

    def _exceeded(self, kind: type[BaseException] | None) -> DeadlineExceeded | None:
        """The error that replaces the cancellation; None if something else ended the request."""
        assert self._task is not None, "only a request that was entered expires"
        if self._task.uncancel() > self._cancelling or kind is not asyncio.CancelledError:
            return None
        return DeadlineExceeded(
            f"the request was not done within {self._deadlines.seconds:g} s",
            remedy="repeat the request; its uncommitted changes were undone",
        )

    def _record(self, error: BaseException | None) -> None:
        if self._work is None:
            return
        seconds, waited = time.perf_counter() - self._started, self._started - self._arrived
        self._work.record(
            seconds, waited, self.tries, error if isinstance(error, Exception) else None
        )


class DeadlineSet:
    """Requests with the same time limit, which expire in the order of their ``add``.

    They share one timer: a timer for each request costs more CPU time.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._pending: dict[RunningRequest, None] = {}
        self._timer: asyncio.TimerHandle | None = None

    def add(self, request: RunningRequest, loop: asyncio.AbstractEventLoop) -> None:
        """Start a request's time limit."""
        request.ends_at = loop.time() + self.seconds
        self._pending[request] = None
        if self._timer is None:
            self._timer = loop.call_at(request.ends_at, self._expire)

    def discard(self, request: RunningRequest) -> None:
        """Remove a request that has ended."""
        self._pending.pop(request, None)

    def _expire(self) -> None:
        self._timer = None
        loop = asyncio.get_running_loop()
        while self._pending:
            first = next(iter(self._pending))
            if first.ends_at > loop.time():
                self._timer = loop.call_at(first.ends_at, self._expire)
                return
            del self._pending[first]
            first.expire()

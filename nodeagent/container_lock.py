"""A DEL waits for the ADDs of its container that are under way; an ADD without a caller never is.

A runtime gives up on an ADD and sends a DEL while that ADD's transaction may still be on its way; a
DEL that looked too early would find nothing, and the address would be held for nobody. ADDs do not
wait for each other: their guards settle who comes first.

The ADD may also have waited unread at its socket, while the DEL came by another one. So the caller
is checked in the same step that counts the ADD as under way. If it was there, its DEL was sent
later, and waits; if it had hung up, the ADD is not started.
"""

from __future__ import annotations

import asyncio
from types import TracebackType

from core.allocation.add_request import HasHungUp, never_hung_up
from core.errors import CallerGone


def require_caller(has_hung_up: HasHungUp) -> None:
    """Raises CallerGone."""
    if has_hung_up():
        raise CallerGone(
            "the caller hung up before its request was started",
            remedy="nothing was done; repeat the request if it is still wanted",
        )


class ContainerLock:
    """Knows the containers that ADDs are under way for."""

    def __init__(self) -> None:
        self._running_adds: dict[str, int] = {}
        self._waiting: dict[str, asyncio.Event] = {}

    def run_add(self, container: str, has_hung_up: HasHungUp = never_hung_up) -> _RunningAdd:
        """While an ADD for the container is under way. Raises CallerGone instead of starting it."""
        return _RunningAdd(self, container, has_hung_up)

    async def wait_for_adds(self, container: str) -> None:
        """Return once no ADD for the container is under way."""
        while container in self._running_adds:
            await self._waiting.setdefault(container, asyncio.Event()).wait()

    def begin(self, container: str) -> None:
        """One more ADD for the container is under way."""
        self._running_adds[container] = self._running_adds.get(container, 0) + 1

    def end(self, container: str) -> None:
        """One of them is over."""
        left = self._running_adds[container] - 1
        if left:
            self._running_adds[container] = left
        else:
            del self._running_adds[container]
            waiting = self._waiting.pop(container, None)
            if waiting is not None:
                waiting.set()


class _RunningAdd:
    """One ADD; a class, because a generator costs every ADD a microsecond more."""

    __slots__ = ("_container", "_has_hung_up", "_lock")

    def __init__(self, lock: ContainerLock, container: str, has_hung_up: HasHungUp) -> None:
        self._lock = lock
        self._container = container
        self._has_hung_up = has_hung_up

    def __enter__(self) -> None:
        require_caller(self._has_hung_up)
        self._lock.begin(self._container)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._lock.end(self._container)

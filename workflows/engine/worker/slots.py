"""Slots: a limited number of attempts at once, granted in order of arrival.

Callers wait by the engine's clock, so that their waits have timeouts and can be skipped in tests.
"""

from __future__ import annotations

import asyncio
from collections import deque


class Slots:
    """``count`` slots."""

    def __init__(self, count: int) -> None:
        self._free = count
        self._queue: deque[asyncio.Event] = deque()

    def take(self, wake: asyncio.Event) -> bool:
        """Take a slot. False if there is none for this caller yet: then ``wake`` is set later."""
        if self._free and (not self._queue or self._queue[0] is wake):
            self._free -= 1
            self.leave(wake)
            return True
        if wake not in self._queue:
            self._queue.append(wake)
        return False

    def leave(self, wake: asyncio.Event) -> None:
        """Stop waiting."""
        if wake in self._queue:
            self._queue.remove(wake)
        self._wake_next()

    def release(self) -> None:
        """Return a slot."""
        self._free += 1
        self._wake_next()

    def _wake_next(self) -> None:
        if self._free and self._queue:
            self._queue[0].set()

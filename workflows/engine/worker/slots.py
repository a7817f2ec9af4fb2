"""Slots: a bounded number of attempts at once; whoever waits for one is woken in order of arrival.

It never waits itself: waiting goes by the engine's clock, so that it can be bounded and skipped.
"""

from __future__ import annotations

import asyncio
from collections import deque


class Slots:
    """``count`` of them."""

    def __init__(self, count: int) -> None:
        self._free = count
        self._queue: deque[asyncio.Event] = deque()

    def take(self, wake: asyncio.Event) -> bool:
        """Take one. If it is not ``wake``'s turn: False, and ``wake`` is set when it is."""
        if self._free and (not self._queue or self._queue[0] is wake):
            self._free -= 1
            self.leave(wake)
            return True
        if wake not in self._queue:
            self._queue.append(wake)
        return False

    def leave(self, wake: asyncio.Event) -> None:
        """Wait no longer."""
        if wake in self._queue:
            self._queue.remove(wake)
        self._call_next()

    def give_back(self) -> None:
        """One is free again."""
        self._free += 1
        self._call_next()

    def _call_next(self) -> None:
        if self._free and self._queue:
            self._queue[0].set()

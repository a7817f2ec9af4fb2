"""What has to be looked at: one item at a time, again later when it fails, never two of the same.

The heart of a level-triggered controller. Items say *that* something may differ; whoever looks
finds out what. An item that fails is tried again after a growing pause and holds up no other.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Hashable, Iterable
from typing import Final, Generic, TypeVar

from core.errors import OrbweaverError

T = TypeVar("T", bound=Hashable)

RETRY_S_MIN: Final = 0.25
RETRY_S_MAX: Final = 30.0
"""Between two tries at an item that failed; doubled each time."""

DOUBLINGS_MAX: Final = 10
"""Enough for the longest pause; a night without a server doubles more often than a float can."""

_log: Final = logging.getLogger(__name__)


class WorkQueue(Generic[T]):
    """``look`` does what is missing for an item. ``failing``: item -> tries so far."""

    def __init__(self, look: Callable[[T], Awaitable[None]], what: str) -> None:
        self.failing: dict[T, int] = {}
        self._look = look
        self._what = what
        self._dirty: dict[T, None] = {}
        self._news = asyncio.Event()

    @property
    def empty(self) -> bool:
        """Whether everything was looked at, and nothing has to be tried again."""
        return not self._dirty and not self.failing

    def add(self, items: Iterable[T]) -> None:
        """These may differ."""
        self._dirty.update(dict.fromkeys(items))
        self._news.set()

    def __contains__(self, item: T) -> bool:
        return item in self._dirty

    async def run(self, ends: Callable[[], bool] = lambda: False) -> None:
        """Work until cancelled. ``ends``: whether a failure ends everything; it is raised then."""
        while True:
            while self._dirty:
                item = next(iter(self._dirty))
                del self._dirty[item]
                try:
                    await self._look(item)
                except Exception as error:
                    # Also one that is a fault of ours: it is about this item, and stops no other.
                    if ends():
                        raise
                    self._again(item, error)
                else:
                    self.failing.pop(item, None)
            self._news.clear()
            await self._news.wait()

    def _again(self, item: T, error: Exception) -> None:
        tries = self.failing[item] = self.failing.get(item, 0) + 1
        pause_s = min(RETRY_S_MIN * 2 ** min(tries - 1, DOUBLINGS_MAX), RETRY_S_MAX)
        fields = {"what": self._what, "item": str(item), "tries": tries}
        unexpected = None if isinstance(error, OrbweaverError) else error
        _log.warning("not done yet: %s", error, exc_info=unexpected, extra={"fields": fields})
        asyncio.get_running_loop().call_later(pause_s, self.add, [item])

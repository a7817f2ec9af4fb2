"""The work queue of a level-triggered controller: keys to reconcile, one at a time.

A key means that its object may have changed; the reconciler reads how. A key is queued once. A
failed key is retried after a growing pause and does not delay others.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Hashable, Iterable
from typing import Final, Generic, TypeVar

from core.errors import OrbweaverError
from core.process.retry import pause_s

T = TypeVar("T", bound=Hashable)

RETRY_S_MIN: Final = 0.25
RETRY_S_MAX: Final = 30.0
"""Between two tries at an item that failed; doubled each time."""

_log: Final = logging.getLogger(__name__)


class WorkQueue(Generic[T]):
    """``reconcile`` brings a key to its desired state. ``failing``: key -> failed tries."""

    def __init__(self, reconcile: Callable[[T], Awaitable[None]], what: str) -> None:
        self.failing: dict[T, int] = {}
        self._reconcile = reconcile
        self._what = what
        self._dirty: dict[T, None] = {}
        self._wake = asyncio.Event()

    @property
    def empty(self) -> bool:
        """Whether every key was reconciled, and none waits for a retry."""
        return not self._dirty and not self.failing

    def add(self, items: Iterable[T]) -> None:
        """Queue these keys."""
        self._dirty.update(dict.fromkeys(items))
        self._wake.set()

    def __contains__(self, item: T) -> bool:
        return item in self._dirty

    async def run(self, ends: Callable[[], bool] = lambda: False) -> None:
        """Reconcile until cancelled. ``ends``: whether a failure ends the queue and is raised."""
        while True:
            while self._dirty:
                item = next(iter(self._dirty))
                del self._dirty[item]
                try:
                    await self._reconcile(item)
                except Exception as error:
                    # A bug too: it must not stop the reconciliation of other keys.
                    if ends():
                        raise
                    self._again(item, error)
                else:
                    self.failing.pop(item, None)
            self._wake.clear()
            await self._wake.wait()

    def _again(self, item: T, error: Exception) -> None:
        tries = self.failing[item] = self.failing.get(item, 0) + 1
        pause = pause_s(tries, RETRY_S_MIN, RETRY_S_MAX)
        fields = {"what": self._what, "item": str(item), "tries": tries}
        unexpected = None if isinstance(error, OrbweaverError) else error
        _log.warning(
            "reconcile failed, will retry: %s", error, exc_info=unexpected, extra={"fields": fields}
        )
        asyncio.get_running_loop().call_later(pause, self.add, [item])

"""The work queue of a level-triggered controller: keys of objects, reconciled one at a time.

A failed key is retried after a growing pause.
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
"""Each failure doubles the pause before the next try."""

_log: Final = logging.getLogger(__name__)


class WorkQueue(Generic[T]):
    """A queue of keys without duplicates. A failed key does not delay other keys.

    ``name``: for logs. ``failing``: key -> number of failed tries.
    """

    def __init__(self, reconcile: Callable[[T], Awaitable[None]], name: str) -> None:
        self.failing: dict[T, int] = {}
        self._reconcile = reconcile
        self._name = name
        self._queued: dict[T, None] = {}
        self._wake = asyncio.Event()

    @property
    def empty(self) -> bool:
        """Whether no key is queued or waits for a retry."""
        return not self._queued and not self.failing

    def add(self, keys: Iterable[T]) -> None:
        """Queue these keys."""
        self._queued.update(dict.fromkeys(keys))
        self._wake.set()

    def __contains__(self, key: T) -> bool:
        return key in self._queued

    async def run(self, ends: Callable[[], bool] = lambda: False) -> None:
        """Reconcile until cancelled.

        After an error, ``ends()`` decides: True raises the error, False retries the key later.
        """
        while True:
            while self._queued:
                key = next(iter(self._queued))
                del self._queued[key]
                try:
                    await self._reconcile(key)
                except Exception as error:
                    # A bug must not stop the reconciliation of other keys.
                    if ends():
                        raise
                    self._retry_later(key, error)
                else:
                    self.failing.pop(key, None)
            self._wake.clear()
            await self._wake.wait()

    def _retry_later(self, key: T, error: Exception) -> None:
        tries = self.failing[key] = self.failing.get(key, 0) + 1
        pause = pause_s(tries, RETRY_S_MIN, RETRY_S_MAX)
        fields = {"what": self._name, "item": str(key), "tries": tries}
        unexpected = None if isinstance(error, OrbweaverError) else error
        _log.warning(
            "reconcile failed, will retry: %s", error, exc_info=unexpected, extra={"fields": fields}
        )
        asyncio.get_running_loop().call_later(pause, self.add, [key])

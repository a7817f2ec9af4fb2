"""Pauses between tries, for everything in the process that is tried again without a bound in time.

Which failures are tried again is the errors' own property (``OrbweaverError.retryable``). Calls of
the store that wait for a bounded time are in ``core.eventstore.retry_policies``.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from typing import Final

from core.errors import OrbweaverError

DOUBLINGS_MAX: Final = 16

_log: Final = logging.getLogger(__name__)


def pause_s(failures: int, first_s: float, max_s: float) -> float:
    """Seconds to wait after consecutive failures: doubled from ``first_s`` to ``max_s``."""
    doublings = min(max(failures - 1, 0), DOUBLINGS_MAX)
    return min(first_s * 2.0**doublings, max_s)


def is_retryable(error: BaseException) -> bool:
    """Whether the error class is marked retryable."""
    return isinstance(error, OrbweaverError) and error.retryable


class Backoff:
    """Growing pauses between the tries of one task. ``max_s`` None: they do not grow.

    ``jitter``: the fraction by which a pause is at most shortened, at random, so that many clients
    do not try again at the same time.
    """

    def __init__(self, first_s: float, max_s: float | None = None, *, jitter: float = 0.0) -> None:
        self._first_s = first_s
        self._max_s = first_s if max_s is None else max_s
        self._jitter = jitter
        self._failures = 0

    def reset(self) -> None:
        """Start again with the first pause, because the task succeeded."""
        self._failures = 0

    def next_s(self) -> float:
        """Count a failure; the seconds to wait before the next try."""
        self._failures += 1
        longest_s = pause_s(self._failures, self._first_s, self._max_s)
        shortest_s = longest_s * (1 - self._jitter)
        return random.uniform(shortest_s, longest_s)  # noqa: S311  # a pause

    async def wait(self) -> None:
        """Wait before the next try."""
        await asyncio.sleep(self.next_s())


async def until_done(work: Callable[[], Awaitable[None]], what: str, backoff: Backoff) -> None:
    """Run ``work`` until it returns, again after each retryable error.

    ``what`` names the work in the log. Raises every other error.
    """
    while True:
        try:
            await work()
        except OrbweaverError as error:
            if not error.retryable:
                raise
            _log.warning("%s failed and is tried again: %s", what, error)
        else:
            return
        await backoff.wait()

"""Retries without a time limit, and the pauses between them.

Store calls are retried up to a time limit, by ``core.eventstore.retry_policies``.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from typing import Final

from core.errors import OrbweaverError

DOUBLINGS_MAX: Final = 16
"""Without a limit, ``2.0**n`` would overflow after many failures."""

_log: Final = logging.getLogger(__name__)


def pause_s(failures: int, first_s: float, max_s: float) -> float:
    """The pause after this number of consecutive failures: ``first_s``, doubled up to ``max_s``."""
    doublings = min(max(failures - 1, 0), DOUBLINGS_MAX)
    return min(first_s * 2.0**doublings, max_s)


def is_retryable(error: BaseException) -> bool:
    """Whether the error's class is marked retryable."""
    return isinstance(error, OrbweaverError) and error.retryable


class Backoff:
    """The pauses between the tries of one task: doubled up to ``max_s`` (default: ``first_s``).

    ``jitter``: the largest fraction by which a pause is shortened, so that clients do not retry at
    the same time.
    """

    def __init__(self, first_s: float, max_s: float | None = None, *, jitter: float = 0.0) -> None:
        self._first_s = first_s
        self._max_s = first_s if max_s is None else max_s
        self._jitter = jitter
        self._failures = 0

    def reset(self) -> None:
        """Begin with the first pause again, after a success."""
        self._failures = 0

    def next_s(self) -> float:
        """Count a failure; return the seconds to wait before the next try."""
        self._failures += 1
        longest_s = pause_s(self._failures, self._first_s, self._max_s)
        shortest_s = longest_s * (1 - self._jitter)
        return random.uniform(shortest_s, longest_s)  # noqa: S311  # a pause

    async def wait(self) -> None:
        """Count a failure, and wait before the next try."""
        await asyncio.sleep(self.next_s())


async def retry_until_done(
    work: Callable[[], Awaitable[None]], name: str, backoff: Backoff
) -> None:
    """Run ``work`` again after each retryable error, until it succeeds. Raises other errors."""
    while True:
        try:
            await work()
        except OrbweaverError as error:
            if not error.retryable:
                raise
            _log.warning("%s failed and will be retried: %s", name, error)
        else:
            return
        await backoff.wait()

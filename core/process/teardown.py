"""Closes resources in reverse order, also when some fail to close.

Each step is pushed before or right after its resource is opened, so that a start which fails
anywhere leaves nothing open. A step that raises or takes too long is logged and counted, and the
steps after it run all the same.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import partial
from typing import Final

STEP_S_MAX: Final = 25.0
"""How long one step may take: more than a drain, less than the 30 s that supervisors wait."""

_log: Final = logging.getLogger(__name__)


class Teardown:
    """``failures``: the names of the steps that failed, in order."""

    def __init__(self) -> None:
        self.failures: list[str] = []
        self._stack = AsyncExitStack()

    def push(self, name: str, close: Callable[[], object]) -> None:
        """Add a step; ``close`` is a function or a coroutine function without arguments."""
        self._stack.push_async_callback(self._step, name, close)

    def push_blocking(self, name: str, close: Callable[[], object]) -> None:
        """Add a step that may block; it runs in a thread."""
        self.push(name, partial(asyncio.to_thread, close))

    async def close(self) -> None:
        """Run every step, the last one first; again is fine."""
        await self._stack.aclose()

    async def _step(self, name: str, close: Callable[[], object]) -> None:
        try:
            async with asyncio.timeout(STEP_S_MAX):
                closing = close()
                if inspect.isawaitable(closing):
                    await closing
        except Exception as error:  # noqa: BLE001  # the steps after this one must run
            self.failures.append(name)
            text = "cannot close %s: %s: %s; the rest is closed all the same"
            _log.error(text, name, type(error).__name__, error, exc_info=error)

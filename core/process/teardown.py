"""Closes resources in reverse order, even if a step fails or takes too long."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import partial
from typing import Final

STEP_S_MAX: Final = 25.0
"""The longest time of one step; the grace period of a Pod is longer (30 s)."""

_log: Final = logging.getLogger(__name__)


class Teardown:
    """The steps of a shutdown. ``failures``: the names of the failed steps, in order."""

    def __init__(self) -> None:
        self.failures: list[str] = []
        self._stack = AsyncExitStack()

    def push(self, name: str, close: Callable[[], object]) -> None:
        """Add a step; ``close`` is a function or a coroutine function.

        Push a step when its resource is opened, so that a failed start leaves nothing open.
        """
        self._stack.push_async_callback(self._step, name, close)

    def push_blocking(self, name: str, close: Callable[[], object]) -> None:
        """Add a step that may block; it runs in a thread."""
        self.push(name, partial(asyncio.to_thread, close))

    async def close(self) -> None:
        """Run every step, the last one first. A second call does nothing."""
        await self._stack.aclose()

    async def _step(self, name: str, close: Callable[[], object]) -> None:
        try:
            async with asyncio.timeout(STEP_S_MAX):
                result = close()
                if inspect.isawaitable(result):
                    await result
        except Exception as error:  # noqa: BLE001  # the steps after this one must run
            self.failures.append(name)
            text = "cannot close %s: %s: %s; closing the remaining resources"
            _log.error(text, name, type(error).__name__, error, exc_info=error)

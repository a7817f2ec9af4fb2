"""Deadlines in seconds for tests that wait for a condition."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterator
from itertools import count

from tests.support.emulation import EMULATION_VARIABLE

DEADLINE_S = 600.0 if EMULATION_VARIABLE in os.environ else 60.0
_POLL_S = 0.01


def attempts(seconds: float = DEADLINE_S) -> Iterator[int]:
    """Yield 0, 1, 2, ... until the deadline; yield at least one number."""
    # A limit on attempts would depend on the load of the machine.
    ends = time.monotonic() + seconds
    for number in count():
        yield number
        if time.monotonic() > ends:
            return


def wait_until(condition: Callable[[], object], what: str, seconds: float = DEADLINE_S) -> None:
    """Wait until a condition is true. Raises AssertionError that names ``what``."""
    for _ in attempts(seconds):
        if condition():
            return
        time.sleep(_POLL_S)
    raise AssertionError(f"not within {seconds:g} s: {what}")


async def until(condition: Callable[[], object], seconds: float = DEADLINE_S) -> None:
    """Wait until a condition is true; the event loop continues. Raises TimeoutError."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)

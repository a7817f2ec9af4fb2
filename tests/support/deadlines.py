"""Deadlines of tests that wait for a condition: seconds, never a number of attempts.

How many attempts a machine makes in a second depends on its load.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterator
from itertools import count

from tests.support.emulation import EMULATION_VARIABLE

DEADLINE_S = 600.0 if EMULATION_VARIABLE in os.environ else 60.0
"""Seconds that a test waits for a condition: ten times as long on an emulated processor."""


def attempts(seconds: float = DEADLINE_S) -> Iterator[int]:
    """Yield the numbers of attempts, from 0, until the deadline; yield at least one number."""
    ends = time.monotonic() + seconds
    for number in count():
        yield number
        if time.monotonic() > ends:
            return


async def until(condition: Callable[[], object], seconds: float = DEADLINE_S) -> None:
    """Wait until a condition holds, without blocking the event loop. Raises TimeoutError."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)

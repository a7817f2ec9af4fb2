"""How long tests wait for what must come: by the clock, never by a number of looks.

A machine may look ten times as often as another, or a tenth as often, in the same time.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from itertools import count

DEADLINE_S = 60.0


def looks(seconds: float = DEADLINE_S) -> Iterator[int]:
    """Numbers from 0, one a look, until the time is over; at least one."""
    ends = time.monotonic() + seconds
    for number in count():
        yield number
        if time.monotonic() > ends:
            return


async def until(condition: Callable[[], object], seconds: float = DEADLINE_S) -> None:
    """Wait until a condition of this event loop holds. Raises TimeoutError."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)

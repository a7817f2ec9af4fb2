"""The event loop of the daemons: which one it is, and when it wakes for what is done regularly."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Final

TICK_SLACK_S: Final = 0.005
"""A timer may be early by its clock's resolution: it must not count as one for the same tick."""


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """What makes uvloop's loop, for ``asyncio.Runner``; None, which is asyncio's own, without it.

    It needs less processor time for the same work, and not a quarter of a megabyte for every TLS
    connection.
    """
    with suppress(ImportError):
        import uvloop  # noqa: PLC0415  # it may be missing

        return uvloop.new_event_loop
    return None


def until_tick_s(period_s: float) -> float:
    """Seconds until the loop's clock is a whole multiple of a period: about the period at most.

    What a process does regularly it does in the same moments, so that an idle one wakes once for
    all: leases whose periods are 1 and 2 s, and watches with one of 7 s.
    """
    now = asyncio.get_running_loop().time()
    return period_s - (now + TICK_SLACK_S) % period_s + TICK_SLACK_S

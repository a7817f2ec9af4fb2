"""When to check the live log next: soon while it grows, less often while it does not. Pure."""

from __future__ import annotations

from typing import Final

from core.archive.archiver import LIVE_SEGMENTS_MAX

PAUSE_S_MIN: Final = 5.0
PAUSE_S_MAX: Final = 60.0
"""Seconds between two checks. An idle cluster costs three small transactions a minute."""


def pause_s(live: int, before: int, over_s: float) -> float:
    """Half the time in which the log would reach its limit at its present growth.

    ``before``: how many live segments there were ``over_s`` seconds ago.
    """
    grown = live - before
    if grown <= 0 or over_s <= 0:
        return PAUSE_S_MAX
    room_s = (LIVE_SEGMENTS_MAX - live) * over_s / grown
    return min(max(room_s / 2, PAUSE_S_MIN), PAUSE_S_MAX)

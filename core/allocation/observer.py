"""Who observes: one process with its calendar and its steady clock.

The gap between two observations is measured here, so a calendar that is set shortens none, and
neither does another machine whose calendar is ahead: its observer has another name.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from typing import Final

from core.domain.reclaim.evidence import Moment

NAME_BYTES: Final = 8
"""Of randomness: a process that was started again is another observer."""


class Observer:
    """``now_s``: Unix seconds by the calendar; ``steady_s``: seconds that only go forwards."""

    def __init__(
        self,
        now_s: Callable[[], float] = time.time,
        steady_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = secrets.token_hex(NAME_BYTES)
        self.now_s = now_s
        self._steady_s = steady_s

    def moment(self) -> Moment:
        """Now."""
        return Moment(self.now_s(), self.name, self._steady_s())

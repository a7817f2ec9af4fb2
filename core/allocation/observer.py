"""The observer of reclaim observations: one process with its wall clock and its monotonic clock.

The time between two observations is measured by the monotonic clock of one observer, so that
neither a clock that is set nor another machine's clock can shorten it.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from typing import Final

from core.domain.reclaim.evidence import Moment

NAME_BYTES: Final = 8
"""Random bytes of the name: a process that was restarted is another observer."""


class Observer:
    """``now_s``: Unix seconds of the wall clock; ``steady_s``: monotonic seconds."""

    def __init__(
        self,
        now_s: Callable[[], float] = time.time,
        steady_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = secrets.token_hex(NAME_BYTES)
        self.now_s = now_s
        self._steady_s = steady_s

    def moment(self) -> Moment:
        """The current time by both clocks."""
        return Moment(self.now_s(), self.name, self._steady_s())

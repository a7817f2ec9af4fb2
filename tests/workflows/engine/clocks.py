"""Clocks that tests set while the engine runs."""

from __future__ import annotations

from workflows.engine.clock import SystemClock


class JumpingClock(SystemClock):
    """A wall clock that a test sets; the monotonic clock continues."""

    def __init__(self) -> None:
        self.offset_ms = 0

    def now_ms(self) -> int:
        return super().now_ms() + self.offset_ms

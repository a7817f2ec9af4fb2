"""Clocks that are set while the engine runs."""

from __future__ import annotations

from workflows.engine.clock import SystemClock


class JumpingClock(SystemClock):
    """A wall clock that somebody sets; the steady one goes on."""

    def __init__(self) -> None:
        self.offset_ms = 0

    def now_ms(self) -> int:
        return super().now_ms() + self.offset_ms

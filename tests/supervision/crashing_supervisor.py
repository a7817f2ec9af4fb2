"""A supervisor with a method to crash one of its tasks."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any

from core.process.concurrency import until_first
from core.process.supervision import Supervisor, TaskSpec


class ManualClock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


class CrashingSupervisor(Supervisor):
    """``crash`` makes the named task raise ZeroDivisionError."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        super().__init__(monotonic)
        self.start_counts: dict[str, int] = {}
        self.specs: dict[str, TaskSpec] = {}
        self._crashes: dict[str, asyncio.Event] = {}

    def start(self, spec: TaskSpec) -> None:
        self.specs[spec.name] = spec
        self._crashes[spec.name] = asyncio.Event()
        super().start(spec._replace(run=self._run_until_crash(spec)))

    def crash(self, name: str) -> None:
        self._crashes[name].set()

    def _run_until_crash(self, spec: TaskSpec) -> Callable[[], Coroutine[Any, Any, object]]:
        async def run() -> None:
            self.start_counts[spec.name] = self.start_counts.get(spec.name, 0) + 1
            await until_first(spec.run(), self._raise_on_crash(spec.name))

        return run

    async def _raise_on_crash(self, name: str) -> None:
        await self._crashes[name].wait()
        self._crashes[name].clear()
        raise ZeroDivisionError(f"a bug of {name}")

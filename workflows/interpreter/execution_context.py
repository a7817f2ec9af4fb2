"""What is true around workflow code while it runs: the current run, the guard, the watchdog."""

from __future__ import annotations

import asyncio
from contextvars import Token
from types import TracebackType

from workflows.api.context import WorkflowRuntime
from workflows.interpreter import guard
from workflows.interpreter.watchdog import watchdog

__all__ = ["CodeScope", "check", "watched"]

check = guard.check
watched = watchdog.watched


class CodeScope:
    """Code of ``run`` runs inside; asyncio's loop is out of its sight.

    Every workflow task enters one, so it is no generator.
    """

    __slots__ = ("_entered", "_loop", "_run")

    def __init__(self, run: WorkflowRuntime) -> None:
        self._run = run

    def __enter__(self) -> None:
        self._loop = asyncio._get_running_loop()  # noqa: SLF001 - documented for event loops
        self._entered: Token[WorkflowRuntime | None] = guard.enter(self._run)
        asyncio._set_running_loop(None)  # noqa: SLF001 - the same

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        asyncio._set_running_loop(self._loop)  # noqa: SLF001 - the same
        guard.leave(self._run, self._entered, self._loop)

"""What is true around workflow code while it runs: the current run, the guard, the watchdog."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from workflows.api.context import WorkflowRuntime
from workflows.interpreter import guard
from workflows.interpreter.watchdog import watchdog

__all__ = ["check", "running", "watched"]

check = guard.check
watched = watchdog.watched


@contextmanager
def running(run: WorkflowRuntime) -> Iterator[None]:
    """Code of ``run`` runs inside; asyncio's loop is out of its sight."""
    loop = asyncio._get_running_loop()  # noqa: SLF001 - documented for exactly this: event loops
    with guard.on_duty(run, loop):
        asyncio._set_running_loop(None)  # noqa: SLF001 - the same
        try:
            yield
        finally:
            asyncio._set_running_loop(loop)  # noqa: SLF001 - the same

"""A feature of the agent that runs in the background."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from core.process.supervision import Supervisor, TaskSpec


class BackgroundService:
    """A started feature with one supervised task."""

    def __init__(
        self,
        supervisor: Supervisor,
        task: TaskSpec,
        on_close: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._supervisor = supervisor
        self._task = task
        self._on_close = on_close
        supervisor.start(task)

    async def close(self) -> None:
        """End the task, then call ``on_close``."""
        await self._supervisor.end(self._task.name)
        if self._on_close is not None:
            await self._on_close()

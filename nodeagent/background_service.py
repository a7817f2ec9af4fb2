"""A background feature of the agent: one supervised task, and a function that closes it.

ClusterIPs and the device plugin are such features: ``start_cluster_ips`` and
``start_device_plugin`` build them from their settings, register their metrics and start them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from core.process.supervision import Supervisor, TaskSpec


class BackgroundService:
    """A started feature.

    ``on_close`` runs after the feature's task has ended; None if nothing has to be closed.
    """

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
        """End the task, then close the feature."""
        await self._supervisor.end(self._task.name)
        if self._on_close is not None:
            await self._on_close()

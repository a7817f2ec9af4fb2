"""Start and signal the executions that the projection requires.

The leader runs the ``ExecutionKeeper``. When the projection changes, the keeper signals every
execution whose ``version`` has changed, and starts it if it is not open. Every ``RESTART_PERIOD_S``
the keeper starts all required executions that are not open.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any, Final, NamedTuple

from core.errors import ExecutionNotFound, LogCorrupt, OrbweaverError
from core.eventstore.keys import Keys
from core.eventstore.kv import KeyValueStore
from core.projections.projection import Projection
from core.projections.projector import Projector
from workflows.api.options import USE_EXISTING
from workflows.engine.client.client import Client
from workflows.engine.store.kinds import OPEN_HEADS
from workflows.model.errors import LimitExceeded

PERIOD_S: Final = 0.2
"""Minimum pause between two passes over the required executions."""

RESTART_PERIOD_S: Final = 600.0
_log: Final = logging.getLogger(__name__)


class RequiredExecution(NamedTuple):
    """An execution that must run. ``signal`` is sent without arguments when ``version`` changes.

    ``starts`` False: the execution is only signalled, because a parent starts it.
    """

    workflow: type[Any]
    workflow_id: str
    arguments: tuple[object, ...]
    signal: str
    version: object = None
    starts: bool = True


RequiredExecutions = Callable[[Projection], Iterable[RequiredExecution]]


async def ensure_execution(client: Client, required: RequiredExecution) -> None:
    """Signal an execution, and start it if ``starts`` and it is not open.

    Raises LogCorrupt, LimitExceeded, StoreUnavailable, OutcomeUnknown.
    """
    if required.starts:
        await client.signal_with_start(
            required.workflow,
            *required.arguments,
            id=required.workflow_id,
            signal=required.signal,
        )
        return
    with suppress(ExecutionNotFound):  # a child that starts later needs no signal
        await client.signal(required.workflow_id, required.signal)


class ExecutionKeeper:
    """Starts and signals the executions that ``sources`` require."""

    def __init__(
        self,
        store: KeyValueStore,
        keys: Keys,
        projector: Projector,
        sources: Sequence[RequiredExecutions],
        name: str,
        *,
        period_s: float = PERIOD_S,
        restart_period_s: float = RESTART_PERIOD_S,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._keys = keys
        self._projector = projector
        self._sources = sources
        self._name = name
        self._period_s = period_s
        self._restart_period_s = restart_period_s
        self._monotonic = monotonic
        self._versions: dict[str, object] = {}
        self._to_restart: set[str] = set()

    async def run(self) -> None:
        """Start and signal executions until cancelled. Raises errors that are not retried."""
        await self._projector.wait_for(lambda: self._projector.ready)
        self._versions.clear()
        async with Client(self._store, self._keys, name=self._name) as client:
            restart_at = self._monotonic() + self._restart_period_s
            while True:
                position = self._projector.projection.position
                is_complete = await self._ensure_all(client)
                wait_s = restart_at - self._monotonic() if is_complete else self._period_s
                await self._until_changed(position, max(wait_s, self._period_s))
                if self._monotonic() >= restart_at:
                    self._to_restart.update(self._versions)
                    restart_at = self._monotonic() + self._restart_period_s

    async def _ensure_all(self, client: Client) -> bool:
        """Start and signal executions. Return False if a retry is needed."""
        projection = self._projector.projection
        required = [execution for source in self._sources for execution in source(projection)]
        is_complete = True
        ids = {execution.workflow_id for execution in required}
        self._versions = {
            workflow_id: version
            for workflow_id, version in self._versions.items()
            if workflow_id in ids
        }
        self._to_restart &= ids
        for execution in required:
            try:
                await self._ensure(client, execution)
            except LogCorrupt as error:  # the next pass tries this execution again
                is_complete = False
                key = error.subject.removeprefix(self._keys.root.decode())
                self._projector.faults.report(OPEN_HEADS.name, key, error)
            except LimitExceeded as error:  # its inbox is full of the same signals
                _log.warning("workflow %s was not signalled: %s", execution.workflow_id, error)
                self._versions[execution.workflow_id] = execution.version
            except OrbweaverError as error:
                if not error.retryable:
                    raise
                _log.warning("workflow %s is signalled later: %s", execution.workflow_id, error)
                return False
        return is_complete

    async def _ensure(self, client: Client, execution: RequiredExecution) -> None:
        workflow_id, version = execution.workflow_id, execution.version
        if workflow_id not in self._versions or self._versions[workflow_id] != version:
            await ensure_execution(client, execution)
        elif workflow_id in self._to_restart and execution.starts:
            await client.start(
                execution.workflow, *execution.arguments, id=workflow_id, options=USE_EXISTING
            )
        self._versions[workflow_id] = version
        self._to_restart.discard(workflow_id)

    async def _until_changed(self, position: int, wait_s: float) -> None:
        """Wait at most ``wait_s`` for a change. After a change, wait ``period_s``."""

        def has_changed() -> bool:
            return self._projector.projection.position != position

        try:
            async with asyncio.timeout(wait_s):
                await self._projector.wait_for(has_changed)
        except TimeoutError:
            return
        await asyncio.sleep(self._period_s)

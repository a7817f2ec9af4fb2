"""The log writers of jobs with many executions: one for each shard of the engine.

A shard has one owner at a time, and only the activities of its executions use its writer. A worker
that has lost a shard is fenced as soon as the next owner writes. So there are sixteen writer names,
however many controllers there are.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from core.configuration.configurator import Applied, Configurator
from core.domain.configuration.commands import Command
from core.domain.events import Cause
from core.errors import LostRace, Refused, WriterFenced
from core.eventstore.keys import Keys, controller_writer
from core.eventstore.kv import KeyValueStore
from core.eventstore.writer import Writer
from workflows.api import activity
from workflows.engine.store.keys import shard_of
from workflows.engine.telemetry import current_traceparent
from workflows.model.errors import ApplicationError

ACTOR: Final = "orbweaver-controller"

REFUSED: Final = "Refused"
"""The failure type of a command that a rule forbids, which is not retried."""


class ShardWriters:
    """Writers by shard, opened at their first use. Only activities use them."""

    def __init__(self, store: KeyValueStore, keys: Keys) -> None:
        self._store = store
        self._keys = keys
        self._writers: dict[int, Writer] = {}
        self._opening = asyncio.Lock()

    async def apply(self, command: Command) -> Applied:
        """Decide and commit a command, with the current execution as its cause.

        Raises StoreUnavailable, OutcomeUnknown, LostRace, which are retryable, and ApplicationError
        of type ``REFUSED``, which is not.
        """
        try:
            async with self.current_writer() as (writer, cause):
                return await Configurator(self._store, self._keys, writer).apply(command, cause)
        except Refused as error:
            raise ApplicationError(str(error), type=REFUSED, non_retryable=True) from error

    @asynccontextmanager
    async def current_writer(self) -> AsyncIterator[tuple[Writer, Cause]]:
        """The writer of the current execution, and the cause of its events.

        Raises LostRace in place of WriterFenced: the next attempt opens the writer again.
        """
        info = activity.info()
        shard = shard_of(info.workflow_id)
        cause = Cause(
            f"{ACTOR}/{info.workflow_type}",
            correlation_id=info.workflow_id,
            causation_id=info.idempotency_key,
            traceparent=current_traceparent(),
        )
        try:
            yield await self._writer_of(shard), cause
        except WriterFenced as error:
            await self._close_writer(shard)
            raise LostRace(
                f"another worker writes for shard {shard}", subject=info.workflow_id
            ) from error

    async def close(self) -> None:
        """Close all writers."""
        for shard in list(self._writers):
            await self._close_writer(shard)

    async def _writer_of(self, shard: int) -> Writer:
        async with self._opening:
            writer = self._writers.get(shard)
            if writer is None:
                writer = Writer(self._store, self._keys, controller_writer(f"jobs-{shard:02x}"))
                await writer.open()
                self._writers[shard] = writer
            return writer

    async def _close_writer(self, shard: int) -> None:
        async with self._opening:
            writer = self._writers.pop(shard, None)
        if writer is not None:
            await writer.close()

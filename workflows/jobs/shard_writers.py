"""Writes of activities to the log: commands, and the releases of reclaim.

Each shard of the engine has one writer, so the number of writer names does not grow with the number
of controllers. A worker that has lost a shard is fenced as soon as the next owner writes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from core.allocation.cooldown import COOL_DOWN_S, CoolDown
from core.allocation.guid_registry import GuidRegistry
from core.allocation.handover import Handover
from core.allocation.releaser import Released, Releaser
from core.configuration.configurator import Applied, Configurator
from core.domain.configuration.commands import Command
from core.domain.events import Cause
from core.domain.reclaim.reclaim_plan import ReclaimStep
from core.errors import LostRace, OrbweaverError, Refused, WriterFenced
from core.eventstore.keys import Keys, controller_writer
from core.eventstore.kinds import HEAD_KEYS
from core.eventstore.kv import Get, KeyValueStore
from core.eventstore.log_reader import LiveLog, Segment
from core.eventstore.writer import Writer
from workflows.api import activity
from workflows.engine.store.keys import shard_of
from workflows.model.errors import ApplicationError

ACTOR: Final = "orbweaver-controller"
"""The first part of an event's actor. The workflow type follows."""

REFUSED: Final = "Refused"
"""The failure type of a command that a rule forbids."""

EARLIER_SEGMENTS_MAX: Final = 1_000
"""The search for the events of an earlier attempt reads this many of a shard's newest segments."""


class ShardWriters:
    """The writers of the shards. Each opens at its first use."""

    def __init__(self, store: KeyValueStore, keys: Keys) -> None:
        self._store = store
        self._keys = keys
        self._writers: dict[int, Writer] = {}
        self._opening = asyncio.Lock()

    async def apply(self, command: Command) -> Applied:
        """Decide and commit a command, with the current execution as the cause.

        Raises StoreUnavailable, OutcomeUnknown, LostRace, or ApplicationError of type ``REFUSED``,
        which is not retried.
        """
        try:
            async with self.current_writer() as (writer, cause):
                return await Configurator(self._store, self._keys, writer).apply(command, cause)
        except Refused as error:
            raise ApplicationError(str(error), type=REFUSED, non_retryable=True) from error

    async def wrote_before(self) -> bool:
        """Whether an earlier attempt of the current activity wrote events and lost the answer.

        Raises StoreUnavailable, Compacted, LogCorrupt.
        """
        info = activity.info()
        writer = _writer_name(shard_of(info.workflow_id))
        revision, (heads,) = await self._store.read([Get(self._keys.head(writer))])
        for kv in heads.kvs:
            seq = HEAD_KEYS.decode(self._keys, kv.key, kv.value).seq
            sealed = {writer: max(seq - EARLIER_SEGMENTS_MAX, 0)}
            log = LiveLog(self._store, self._keys, revision, {writer: seq}, sealed, remedy=None)
            async for segments in log.segments():
                if any(_is_caused_by(info.idempotency_key, segment) for segment in segments):
                    return True
        return False

    @asynccontextmanager
    async def current_writer(self) -> AsyncIterator[tuple[Writer, Cause]]:
        """The writer of the current execution, and the cause of its events.

        WriterFenced becomes LostRace: the next attempt opens the writer again.
        """
        info = activity.info()
        shard = shard_of(info.workflow_id)
        cause = Cause(
            f"{ACTOR}/{info.workflow_type}",
            correlation_id=info.workflow_id,
            causation_id=info.idempotency_key,
            traceparent=info.traceparent,
        )
        try:
            yield await self._writer_of(shard), cause
        except WriterFenced as error:
            await self._close_writer(shard)
            raise LostRace(
                f"the writer of shard {shard} was fenced: another worker writes for this shard",
                subject=info.workflow_id,
                remedy="wait: the engine retries the activity",
            ) from error

    async def close(self) -> None:
        """Close all writers."""
        for shard in list(self._writers):
            await self._close_writer(shard)

    async def _writer_of(self, shard: int) -> Writer:
        async with self._opening:
            writer = self._writers.get(shard)
            if writer is None:
                writer = Writer(self._store, self._keys, _writer_name(shard))
                await writer.open()
                self._writers[shard] = writer
            return writer

    async def _close_writer(self, shard: int) -> None:
        async with self._opening:
            writer = self._writers.pop(shard, None)
        if writer is not None:
            await writer.close()


def _writer_name(shard: int) -> str:
    return controller_writer(f"jobs-{shard:02x}")


def _is_caused_by(causation_id: str, segment: Segment) -> bool:
    # Most segments do not contain the id, and need no decoding.
    return causation_id.encode() in segment.data and any(
        recorded.cause.causation_id == causation_id for recorded in segment.events()
    )


class Releases:
    """Makes the releases of reclaim.

    Counts ``released`` addresses, ``failed`` releases and ``lost`` races.
    """

    def __init__(
        self,
        store: KeyValueStore,
        keys: Keys,
        writers: ShardWriters,
        handover: Handover | None = None,
        *,
        cool_down_s: int = COOL_DOWN_S,
    ) -> None:
        self._store = store
        self._keys = keys
        self._writers = writers
        self._handover = handover
        self._cooldown = CoolDown(store, cool_down_s)
        self.released = 0
        self.failed = 0
        self.lost = 0

    async def make(self, step: ReclaimStep) -> Released:
        """Make a release. Raises as ``Releaser.reclaim``, and LostRace."""
        hand_over = None if self._handover is None else self._handover.hand_over
        try:
            async with self._writers.current_writer() as (writer, cause):
                releaser = Releaser(self._store, self._keys, writer, self._cooldown, hand_over)
                try:
                    done = await releaser.reclaim(step, cause)
                finally:
                    self.lost += releaser.lost_races
        except OrbweaverError:
            self.failed += 1
            raise
        self.released += len(done.addresses)
        return done

    async def release_guids(self, node: str) -> int:
        """Release and count all GUIDs of a deleted node. Raises as ``make``."""
        async with self._writers.current_writer() as (writer, cause):
            registry = GuidRegistry(self._store, self._keys, writer, node, cause)
            guids = await registry.held()
            await registry.release([(guid, "node-deleted") for guid in guids])
        return len(guids)

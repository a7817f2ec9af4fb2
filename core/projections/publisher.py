"""The publisher: writes the checkpoint, which is the position of the leader's projection.

The checkpoint is only a report, for ``orbctl status``. A write fails if this process no longer
leads, or if another process has written a checkpoint. That checkpoint is replaced only after the
projection has passed its position.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, NamedTuple

from core.errors import LostRace, OutcomeUnknown
from core.eventstore.codec import KeyKind, StateCodec, check_counts
from core.eventstore.keys import Keys, key_text
from core.eventstore.kv import Delete, Get, KeyValue, KeyValueStore, Put, Unchanged, Write
from core.eventstore.writer import unix_ms
from core.projections.projector import Projector

CHECKPOINT_NAME = "projector"


class Checkpoint(NamedTuple):
    """At ``at_ms``, the leader ``writer`` had applied all events up to ``position``."""

    position: int
    at_ms: int
    writer: str


CHECKPOINT_CODEC = StateCodec(
    Checkpoint,
    lambda checkpoint: check_counts(position=checkpoint.position, at_ms=checkpoint.at_ms),
)

REWRITTEN_REMEDY: Final = "the leading controller writes it again by itself"

CHECKPOINT_KEYS: Final[KeyKind[Checkpoint]] = KeyKind(
    name="projector checkpoint",
    prefix=f"meta/{CHECKPOINT_NAME}",
    decode=CHECKPOINT_CODEC.decode,
    readers=("controller", "orbctl"),
    remedy=REWRITTEN_REMEDY,
)  # fmt: skip

CHECKPOINT_PERIOD_S = 1.0
"""The shortest time between two checkpoints."""

NO_CHECKPOINT = Checkpoint(position=0, at_ms=0, writer="")


class Publisher:
    """Publishes the checkpoint of a projector. ``published``: the number of checkpoints written."""

    def __init__(
        self,
        store: KeyValueStore,
        keys: Keys,
        projector: Projector,
        name: str,
        *,
        period_s: float = CHECKPOINT_PERIOD_S,
        now_ms: Callable[[], int] = unix_ms,
    ) -> None:
        self.published = 0
        self._published_events = 0
        self._store = store
        self._key = keys.meta(CHECKPOINT_NAME)
        self._keys = keys
        self._projector = projector
        self._name = name
        self._period_s = period_s
        self._now_ms = now_ms
        self._stored = NO_CHECKPOINT
        self._stored_revision = 0

    @property
    def unpublished(self) -> int:
        """The number of events applied after the last publication."""
        return self._projector.events - self._published_events

    async def run(self, fence: Unchanged) -> None:
        """Publish until cancelled. Raises StoreError, and LostRace if the fence is lost.

        ``fence``: the guard that this process is still the leader.
        """
        await self._projector.wait_for(lambda: self._projector.ready)
        await self.adopt(fence)
        while True:
            await self._projector.wait_for(self._is_ahead)
            await self.publish(fence)
            await asyncio.sleep(self._period_s)

    async def adopt(self, fence: Unchanged) -> None:
        """Read the stored checkpoint, and delete the keys ``view/pool`` that older versions wrote.

        Raises StoreError, and LostRace if the fence is lost.
        """
        views = self._keys.range_of("view", "pool")
        gets = [Get(self._key), Get(*views, limit=1, keys_only=True)]
        stored, old_views = (await self._store.read(gets)).ranges
        self._adopt_stored(stored.first)
        if old_views.kvs:
            await self._commit(fence, Delete(*views))

    async def publish(self, fence: Unchanged) -> None:
        """Write the position; if another process has written a checkpoint, only adopt that one.

        Raises StoreUnavailable, StoreRejected, and LostRace if the fence is lost.
        """
        position, events = self._projector.projection.position, self._projector.events
        if position > self._stored.position:
            checkpoint = Checkpoint(position, self._now_ms(), self._name)
            revision = await self._commit(
                fence, Put(self._key, CHECKPOINT_CODEC.encode(checkpoint))
            )
            if not revision:
                return
            self._stored, self._stored_revision = checkpoint, revision
            self._projector.faults.clear(key_text(self._keys, self._key))
            self.published += 1
        self._published_events = events

    def _is_ahead(self) -> bool:
        return self._projector.projection.position > self._stored.position

    async def _commit(self, fence: Unchanged, write: Write) -> int:
        """Write, and return the revision of the commit.

        If another process has stored a checkpoint, adopt that checkpoint and return 0.
        """
        fence_get, stored_get = gets = [Get(fence.key), Get(self._key)]
        guards = [fence, Unchanged(self._key, self._stored_revision)]
        try:
            result = await self._store.commit(guards, [write], gets)
            if result.succeeded:
                return result.revision
            answers = result.reads
        except OutcomeUnknown:
            # etcd may still apply the transaction later, but not over a newer checkpoint.
            answers = dict(zip(gets, (await self._store.read(gets)).ranges, strict=True))
        fence_kv, stored_kv = answers[fence_get].first, answers[stored_get].first
        if (fence_kv.mod_revision if fence_kv else 0) != fence.mod_revision:
            raise LostRace("this process is no longer the leader", subject=self._name)
        self._adopt_stored(stored_kv)
        return 0

    def _adopt_stored(self, kv: KeyValue | None) -> None:
        """Use the stored checkpoint, or NO_CHECKPOINT if there is none or it cannot be decoded."""
        faults = self._projector.faults
        if kv is None:
            faults.clear(key_text(self._keys, self._key))
            self._stored, self._stored_revision = NO_CHECKPOINT, 0
            return
        checkpoint = CHECKPOINT_KEYS.read(self._keys, self._key, kv.value, faults)
        self._stored, self._stored_revision = checkpoint or NO_CHECKPOINT, kv.mod_revision

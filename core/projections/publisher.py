"""The publisher: writes the checkpoint, the position of the leading controller's projection.

The checkpoint is only a report for users (``orbctl status``). It is written at most once per
``CHECKPOINT_PERIOD_S``, and only if the projection has advanced. A write is guarded by the revision
of the checkpoint it replaces and by the leader's fence, so that a paused former leader writes
nothing. A failed guard reads the stored checkpoint; a newer one is not replaced until this
projection has passed it. One that cannot be decoded is reported and replaced.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, NamedTuple

from core.domain.plausibility import check_counts
from core.errors import LostRace, OutcomeUnknown
from core.eventstore.codec import StateCodec
from core.eventstore.keys import Keys
from core.eventstore.kinds import KeyKind, key_text
from core.eventstore.kv import Delete, Get, KeyValue, KeyValueStore, Put, Unchanged, Write
from core.eventstore.writer import unix_ms
from core.projections.projector import Projector

CHECKPOINT = "projector"
"""The name of the checkpoint under ``meta/``."""


class Checkpoint(NamedTuple):
    """Status and metrics include everything up to ``position``; ``at_ms``: when written."""

    position: int
    at_ms: int
    writer: str


CHECKPOINTS = StateCodec(Checkpoint, lambda one: check_counts(one.position, one.at_ms))

REWRITTEN: Final = "nothing: the leading controller writes it again"
CHECKPOINT_KIND: Final[KeyKind[Checkpoint]] = KeyKind(
    "projector checkpoint", f"meta/{CHECKPOINT}", CHECKPOINTS.decode, ("controller", "orbctl"),
    REWRITTEN,
)  # fmt: skip

CHECKPOINT_PERIOD_S = 1.0
"""The time in which at most one checkpoint is written."""

NO_CHECKPOINT = Checkpoint(0, 0, "")


class Publisher:
    """Publishes one projector's checkpoint under a name. ``published``: written so far."""

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
        self._events_told = 0
        self._store = store
        self._key = keys.meta(CHECKPOINT)
        self._keys = keys
        self._projector = projector
        self._name = name
        self._period_s = period_s
        self._now_ms = now_ms
        self._stored = NO_CHECKPOINT
        self._stored_revision = 0

    @property
    def unpublished(self) -> int:
        """Events in the projection that were folded after the last publication."""
        return self._projector.events - self._events_told

    async def run(self, fence: Unchanged) -> None:
        """Publish while the fence holds. Raises LostRace when it does not, StoreError."""
        await self._projector.wait_for(lambda: self._projector.ready)
        await self.adopt(fence)
        while True:
            await self._projector.wait_for(self._is_ahead)
            await self.publish(fence)
            await asyncio.sleep(self._period_s)

    async def adopt(self, fence: Unchanged) -> None:
        """Read the stored checkpoint, and delete pool views of older versions.

        Raises LostRace when the fence does not hold, StoreError.
        """
        views = self._keys.range_of("view", "pool")
        gets = [Get(self._key), Get(*views, limit=1, keys_only=True)]
        stored, old = (await self._store.read(gets)).ranges
        self._learn(stored.first)
        if old.kvs:
            await self._commit(fence, Delete(*views))

    async def publish(self, fence: Unchanged) -> None:
        """Write the position of the projection.

        If another process has written the checkpoint first, the next call writes. Raises LostRace
        when the fence does not hold, StoreUnavailable, StoreRejected.
        """
        position, events = self._projector.projection.position, self._projector.events
        if position > self._stored.position:
            checkpoint = Checkpoint(position, self._now_ms(), self._name)
            revision = await self._commit(fence, Put(self._key, CHECKPOINTS.encode(checkpoint)))
            if not revision:
                return
            self._stored, self._stored_revision = checkpoint, revision
            self._projector.faults.clear(key_text(self._keys, self._key))
            self.published += 1
        self._events_told = events

    def _is_ahead(self) -> bool:
        return self._projector.projection.position > self._stored.position

    async def _commit(self, fence: Unchanged, write: Write) -> int:
        """The revision of the commit; 0 after reading another checkpoint instead."""
        lead_get, stored_get = gets = [Get(fence.key), Get(self._key)]
        guards = [fence, Unchanged(self._key, self._stored_revision)]
        try:
            result = await self._store.commit(guards, [write], gets)
            if result.succeeded:
                return result.revision
            answers = result.reads
        except OutcomeUnknown:
            # If it is still in flight, its guards fail when something newer is written.
            answers = dict(zip(gets, (await self._store.read(gets)).ranges, strict=True))
        lead, stored = answers[lead_get].first, answers[stored_get].first
        if (lead.mod_revision if lead else 0) != fence.mod_revision:
            raise LostRace("the lead was lost", subject=self._name)
        self._learn(stored)
        return 0

    def _learn(self, kv: KeyValue | None) -> None:
        """Use the stored checkpoint."""
        faults = self._projector.faults
        if kv is None:
            faults.clear(key_text(self._keys, self._key))
        found = faults.read(CHECKPOINT_KIND, self._keys, self._key, kv.value) if kv else None
        self._stored, self._stored_revision = found or NO_CHECKPOINT, kv.mod_revision if kv else 0

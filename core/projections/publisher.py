"""The publisher: writes pool views and the checkpoint, coalesced, and never over newer ones.

Each pool is written at most once per ``VIEW_PERIOD_S``, and only when its view says something new.
A write is guarded by the revision of the view it replaces and by the leader's fence: a publisher
that was paused and lost its lead writes nothing any more. What a failed guard shows is taken in;
a stored view with a newer position is left alone until this projection has passed it. One that
cannot be read is named, and written over.
It reads nothing of the log and decides nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from core.errors import LostRace, OutcomeUnknown
from core.projections.projector import Projector
from core.projections.views import (
    CHECKPOINT,
    CHECKPOINT_KIND,
    CHECKPOINTS,
    POOL_VIEW,
    POOL_VIEWS,
    Checkpoint,
    PoolView,
)
from core.store.keys import Keys
from core.store.kinds import key_text
from core.store.kv import Delete, Get, KeyValue, KeyValueStore, Put, Unchanged, Write
from core.store.writer import unix_ms

VIEW_PERIOD_S = 1.0
"""At most one write per pool in this time."""

VIEWS_PER_WRITE_MAX = 60
"""Views in one transaction: their guards, the fence and the checkpoint stay within etcd's 128."""


class _Stored(NamedTuple):
    """What lies under a view key; revision 0: nothing, else without a view: nothing to be read."""

    view: PoolView | None
    revision: int


NOTHING = _Stored(None, 0)
NO_CHECKPOINT = Checkpoint(0, 0, "")


class Publisher:
    """Publishes one projector's views under a name. ``published``: views written so far."""

    def __init__(
        self,
        store: KeyValueStore,
        keys: Keys,
        projector: Projector,
        name: str,
        *,
        period_s: float = VIEW_PERIOD_S,
        now_ms: Callable[[], int] = unix_ms,
    ) -> None:
        self.published = 0
        self._events_told = 0
        self._store = store
        self._keys = keys
        self._projector = projector
        self._name = name
        self._period_s = period_s
        self._now_ms = now_ms
        self._stored: dict[str, _Stored] = {}
        self._checkpoint = NO_CHECKPOINT
        self._checkpoint_revision = 0

    @property
    def unpublished(self) -> int:
        """Events in the projection that were folded after the last publication."""
        return self._projector.events - self._events_told

    async def run(self, fence: Unchanged) -> None:
        """Publish while the fence holds. Raises LostRace when it does not, StoreError."""
        await self._projector.wait_for(lambda: self._projector.ready)
        await self.adopt()
        while True:
            await self._projector.wait_for(self._has_news)
            await self.publish(fence)
            await asyncio.sleep(self._period_s)

    async def adopt(self) -> None:
        """Read what is stored; views that say something else count as changed."""
        gets = [Get(*self._keys.room("view", "pool")), Get(self._keys.meta(CHECKPOINT))]
        views, checkpoint = (await self._store.read(gets)).ranges
        self._stored.clear()
        for kv in views.kvs:
            self._learn(kv.key, kv)
        self._learn(self._keys.meta(CHECKPOINT), checkpoint.first)
        projection = self._projector.projection
        projection.changed |= self._stored.keys() | projection.tallies.keys()

    async def publish(self, fence: Unchanged) -> None:
        """Write every view that says something new, and how far they go.

        A view that somebody else wrote meanwhile is left for the next time. Raises LostRace when
        the fence does not hold, StoreUnavailable, StoreRejected.
        """
        projection = self._projector.projection
        names, position = sorted(projection.changed), projection.position
        events = self._projector.events
        views = {name: projection.view(name) for name in names}
        news = [name for name in names if self._says_more(name, views[name], position)]
        projection.changed.clear()
        try:
            while news:
                part, news = news[:VIEWS_PER_WRITE_MAX], news[VIEWS_PER_WRITE_MAX:]
                if not await self._write(fence, {name: views[name] for name in part}):
                    projection.changed.update(part)
            if not projection.changed.intersection(names):
                await self._write_checkpoint(fence, position)
                self._events_told = events
        except BaseException:
            self._projector.projection.changed.update(names)
            raise

    def _has_news(self) -> bool:
        projection = self._projector.projection
        return bool(projection.changed) or projection.position > self._checkpoint.position

    def _says_more(self, name: str, view: PoolView | None, position: int) -> bool:
        stored, revision = self._stored.get(name, NOTHING)
        if view is None:
            return bool(revision)
        if stored is None:
            return True
        return stored.position <= position and not view.same_content(stored)

    async def _write(self, fence: Unchanged, views: Mapping[str, PoolView | None]) -> bool:
        """Write or delete these views in one transaction; False when some were not as expected."""
        keys = {name: self._keys.pool_view(name) for name in views}
        writes: list[Write] = [
            Delete(keys[name]) if view is None else Put(keys[name], POOL_VIEW.encode(view))
            for name, view in views.items()
        ]
        guards = [
            Unchanged(key, self._stored.get(name, NOTHING).revision) for name, key in keys.items()
        ]
        revision = await self._commit(fence, guards, writes)
        if not revision:
            return False
        for name, view in views.items():
            self._stored[name] = NOTHING if view is None else _Stored(view, revision)
            self._projector.faults.clear(key_text(self._keys, keys[name]))
        self.published += len(views)
        return True

    async def _write_checkpoint(self, fence: Unchanged, position: int) -> None:
        if position <= self._checkpoint.position:
            return
        checkpoint = Checkpoint(position, self._now_ms(), self._name)
        key = self._keys.meta(CHECKPOINT)
        guard = Unchanged(key, self._checkpoint_revision)
        revision = await self._commit(fence, [guard], [Put(key, CHECKPOINTS.encode(checkpoint))])
        if revision:
            self._checkpoint, self._checkpoint_revision = checkpoint, revision

    async def _commit(
        self, fence: Unchanged, guards: Sequence[Unchanged], writes: Sequence[Write]
    ) -> int:
        """The revision of the commit, or 0 after taking in what is there instead."""
        gets = [Get(guard.key) for guard in (fence, *guards)]
        try:
            result = await self._store.commit([fence, *guards], writes, gets)
            if result.succeeded:
                return result.revision
            answers = result.reads
        except OutcomeUnknown:
            # If it is still under way, its guards fail as soon as something newer is written.
            answers = (await self._store.read(gets)).ranges
        lead, *found = (answer.first for answer in answers)
        if (lead.mod_revision if lead else 0) != fence.mod_revision:
            raise LostRace("the lead was lost", subject=self._name)
        for guard, kv in zip(guards, found, strict=True):
            self._learn(guard.key, kv)
        return 0

    def _learn(self, key: bytes, kv: KeyValue | None) -> None:
        """Take in what lies under a view's or the checkpoint's key."""
        faults, revision = self._projector.faults, kv.mod_revision if kv else 0
        text = key_text(self._keys, key)
        if kv is None:
            faults.clear(text)
        if key == self._keys.meta(CHECKPOINT):
            found = faults.read(CHECKPOINT_KIND, self._keys, key, kv.value) if kv else None
            self._checkpoint, self._checkpoint_revision = found or NO_CHECKPOINT, revision
            return
        view = faults.read(POOL_VIEWS, self._keys, key, kv.value) if kv else None
        name = text.removeprefix("view/pool/")
        if key == self._keys.pool_view(name):  # else nothing ever writes or reads such a key
            self._stored[name] = _Stored(view, revision)

"""What all releases of one controller share: writers, cool-down, counts.

The executions of one shard write under one name, which belongs to whoever owns the shard: opening
it fences the owner before. So the names are few and last, however many controllers come and go.
What keeps two of them from ending one claim twice is the fence of every release (I3) all the same.
"""

from __future__ import annotations

import asyncio
from typing import Final, NamedTuple

from core.domain.events import Cause
from core.domain.reclaim.planning import ReclaimStep
from core.domain.reclaim.settings import ReclaimSettings
from core.errors import OrbweaverError, WriterFenced
from core.service.cooldown import COOL_DOWN_S, CoolDown
from core.service.observer import Observer
from core.service.reclaimer import Reclaimer
from core.service.releaser import Released, Releaser
from core.store.keys import Keys
from core.store.kv import KeyValueStore
from core.store.writer import Writer
from workflows.api import activity
from workflows.engine.keys import shard_of
from workflows.jobs.facts import FactsSource

ACTOR: Final = "orbweaver-controller/reclaim"
WRITER: Final = "reclaim-{:02x}"
"""By shard."""


def can_be_retried(error: OrbweaverError) -> bool:
    """Whether another attempt may succeed; a fenced writer is opened anew by it."""
    return error.retryable or isinstance(error, WriterFenced)


class Releases:
    """Writers are opened when they are first needed.

    ``released`` and ``failed`` count addresses and failures since the start.
    """

    def __init__(self, store: KeyValueStore, keys: Keys, *, cool_down_s: int = COOL_DOWN_S) -> None:
        self._store = store
        self._keys = keys
        self._cooldown = CoolDown(store, cool_down_s)
        self._opening = asyncio.Lock()
        self._writers: dict[str, Writer] = {}
        self.released = 0
        self.failed = 0

    async def make(self, step: ReclaimStep) -> Released:
        """One release for the activity at work; see ``Reclaimer``.

        Raises what that raises, and WriterFenced: then the next attempt opens the writer anew.
        """
        info = activity.info()
        name = WRITER.format(shard_of(info.workflow_id))
        cause = Cause(ACTOR, info.run_id, info.idempotency_key)
        try:
            done = await (await self._reclaimer(name)).reclaim(step, cause)
        except Exception as error:
            self.failed += 1
            if isinstance(error, WriterFenced):
                await self._close(name)
            raise
        self.released += len(done.addresses)
        return done

    async def close(self) -> None:
        """Give the writers back."""
        for name in tuple(self._writers):
            await self._close(name)

    async def _close(self, name: str) -> None:
        writer = self._writers.pop(name, None)
        if writer is not None:
            await writer.close()

    async def _reclaimer(self, name: str) -> Reclaimer:
        async with self._opening:
            writer = self._writers.get(name)
            if writer is None:
                writer = Writer(self._store, self._keys, name)
                await writer.open()
                self._writers[name] = writer
        releaser = Releaser(self._store, self._keys, writer, self._cooldown)
        return Reclaimer(self._store, self._keys, writer, releaser, self._cooldown)


class Means(NamedTuple):
    """What reclaiming works with in one process."""

    store: KeyValueStore
    keys: Keys
    facts: FactsSource
    settings: ReclaimSettings
    observer: Observer
    releases: Releases

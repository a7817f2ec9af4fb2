"""The releases of reclaiming: made by the writer of the present execution, and counted.

Several controllers reclaim at once; what keeps two of them from ending one claim twice is the fence
of every release (I3). What a network provider has bound is handed over to be given back.
"""

from __future__ import annotations

from typing import NamedTuple

from core.allocation import claim_releases
from core.allocation.cooldown import COOL_DOWN_S, CoolDown
from core.allocation.handover import Handover
from core.allocation.observer import Observer
from core.allocation.releaser import Released, Releaser
from core.domain.reclaim.reclaim_plan import ReclaimStep
from core.domain.reclaim.settings import ReclaimSettings
from core.errors import OrbweaverError
from core.eventstore.keys import Keys
from core.eventstore.kv import KeyValueStore
from workflows.jobs.reclaim.facts import ReclaimFactsSource
from workflows.jobs.writers import ShardWriters


class Releases:
    """``released``, ``failed``, ``lost``: addresses, failures and lost races since the start."""

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
        """One release for the activity at work; raises what ``Releaser`` does, WriterFenced."""
        hand_over = None if self._handover is None else self._handover.hand_over
        try:
            async with self._writers.borrowed() as (writer, cause):
                releaser = Releaser(self._store, self._keys, writer, self._cooldown, hand_over)
                try:
                    done = await claim_releases.reclaim(releaser, step, cause)
                finally:
                    self.lost += releaser.lost_races
        except OrbweaverError:
            self.failed += 1
            raise
        self.released += len(done.addresses)
        return done


class ReclaimContext(NamedTuple):
    """What reclaiming works with in one process."""

    store: KeyValueStore
    keys: Keys
    facts: ReclaimFactsSource
    settings: ReclaimSettings
    observer: Observer
    releases: Releases

"""The releases of reclaiming: made by the writer of the present execution, and counted.

Several controllers reclaim at once; what keeps two of them from ending one claim twice is the fence
of every release (I3). What a network provider has bound is handed over to be given back.
"""

from __future__ import annotations

from typing import NamedTuple

from core.allocation.cooldown import COOL_DOWN_S, CoolDown
from core.allocation.handover import Handover
from core.allocation.observer import Observer
from core.allocation.reclaimer import LATE, Reclaimer
from core.allocation.releaser import Released
from core.domain.claims.claim_decisions import ReleaseDecision
from core.domain.model import Endpoint
from core.domain.reclaim.reclaim_plan import ReclaimStep
from core.domain.reclaim.settings import ReclaimSettings
from core.errors import OrbweaverError, WriterFenced
from core.eventstore.keys import Keys
from core.eventstore.kv import KeyValueStore
from workflows.jobs.reclaim.facts import ReclaimFactsSource
from workflows.jobs.writers import ShardWriters


def can_be_retried(error: OrbweaverError) -> bool:
    """Whether another attempt may succeed; a fenced writer is opened anew by it."""
    return error.retryable or isinstance(error, WriterFenced)


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
        """One release for the activity at work; raises what ``Reclaimer`` does, WriterFenced."""
        try:
            done = await self._handed_over(step)
            if done is not None:
                return done
            async with self._writers.borrowed() as (writer, cause):
                reclaimer = Reclaimer(self._store, self._keys, writer, self._cooldown)
                try:
                    done = await reclaimer.reclaim(step, cause)
                finally:
                    self.lost += reclaimer.lost
        except OrbweaverError:
            self.failed += 1
            raise
        self.released += len(done.addresses)
        return done

    async def _handed_over(self, step: ReclaimStep) -> Released | None:
        """None: nothing of it is a network provider's; its claims end here."""
        if self._handover is None or not step.ends_endpoint:
            return None

        def decide(endpoint: Endpoint) -> ReleaseDecision:
            return ReleaseDecision(step.fence.admits(endpoint), LATE)

        evidence = str(step.evidence)
        return await self._handover.hand_over(step.key, decide, "reclaimed", evidence)


class ReclaimContext(NamedTuple):
    """What reclaiming works with in one process."""

    store: KeyValueStore
    keys: Keys
    facts: ReclaimFactsSource
    settings: ReclaimSettings
    observer: Observer
    releases: Releases

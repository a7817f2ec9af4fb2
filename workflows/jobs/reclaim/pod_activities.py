"""The activity behind one Pod's execution: look at its endpoint, decide, release.

It reads the endpoint and its claims alone, so its cost does not grow with the cluster. An
observation of another process counts for nothing, because its clocks cannot be compared with ours:
the count begins anew, which costs one more gap.
"""

from __future__ import annotations

import logging
from typing import NamedTuple

from core.domain.reclaim.deadlines import ReclaimDeadline
from core.domain.reclaim.decision_table import Rules
from core.domain.reclaim.evidence import Moment
from core.domain.reclaim.reclaim_plan import KeptClaims, resolve
from core.errors import NotReady, OrbweaverError
from core.eventstore.state import read_endpoint
from workflows.api import activity
from workflows.jobs.reclaim.releases import ReclaimContext

NOTHING_LEFT = "nothing of it is left: its addresses were released"

_log = logging.getLogger(__name__)


class PodResolution(NamedTuple):
    """What one look came to. ``until_s``: look again then (Unix seconds), 0: it is over.

    ``seen``: the first observation of whoever looks now, where it is another one's.
    """

    released: tuple[str, ...]
    why: str
    until_s: float = 0.0
    seen: Moment | None = None


class PodActivities:
    """The activity and what it needs. It counts ``released`` addresses and ``failed`` attempts."""

    def __init__(self, means: ReclaimContext) -> None:
        self._means = means
        self.released = 0
        self.failed = 0

    @activity.defn(name="reclaim-pod")
    async def resolve(self, one: ReclaimDeadline) -> PodResolution:
        """Release the Pod's addresses if they are free by now.

        Raises a failure that a retry helps, but for the last of ``tries_max`` attempts; that nobody
        answered whether they are free is one.
        """
        try:
            return await self._resolve(one)
        except OrbweaverError as error:
            self.failed += 1
            attempt = activity.info().attempt
            if error.retryable and attempt < self._means.settings.tries_max:
                raise
            _log.warning("reclaiming %s was left to the scan: %s", "/".join(one.endpoint), error)
            return PodResolution((), f"left to the scan after {attempt} tries: {error}")

    async def _resolve(self, one: ReclaimDeadline) -> PodResolution:
        means = self._means
        claims_read = means.observer.moment()
        ledger = await read_endpoint(means.store, means.keys, one.endpoint)
        facts = await means.facts.facts(ledger, claims_read)
        seen = None
        if facts.seen.observer != one.seen.observer:
            seen = facts.seen
            one = one._replace(seen=seen)
        rules = Rules(facts, means.settings, means.observer.now_s())
        found = resolve(one, ledger, rules)
        if found is None:
            return PodResolution((), NOTHING_LEFT)
        if isinstance(found, KeptClaims):
            if found.unanswered:
                raise NotReady(found.why, subject="/".join(one.endpoint))
            return PodResolution((), found.why, found.until_s, seen)
        done = await means.releases.make(found)
        if not done.revision:
            again_s = rules.now_s + means.settings.trace_interval_s
            return PodResolution((), done.why, again_s, seen)
        self.released += len(done.addresses)
        return PodResolution(done.addresses, str(found.evidence))

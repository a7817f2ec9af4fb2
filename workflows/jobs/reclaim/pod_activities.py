"""The activity of one Pod's execution: read its endpoint, decide, release.

It reads the endpoint and its claims alone, so its cost does not grow with the cluster. An
observation of another process is replaced by one of this process, because clocks of two processes
cannot be compared; that delays the release by one observation gap.
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
    """The outcome of one activity. ``until_s``: resolve again then (Unix seconds); 0: it is done.

    ``seen``: the first observation of this process, if it replaces that of another one.
    """

    released: tuple[str, ...]
    why: str
    until_s: float = 0.0
    seen: Moment | None = None


class PodActivities:
    """The activity. It counts ``released`` addresses and ``failed`` attempts."""

    def __init__(self, context: ReclaimContext) -> None:
        self._context = context
        self.released = 0
        self.failed = 0

    @activity.defn(name="reclaim-pod")
    async def resolve(self, deadline: ReclaimDeadline) -> PodResolution:
        """Release the Pod's addresses if they are free.

        Raises retryable errors, NotReady among them if no source knows whether they are free, but
        not in the last of ``tries_max`` attempts.
        """
        try:
            return await self._resolve(deadline)
        except OrbweaverError as error:
            self.failed += 1
            attempt = activity.info().attempt
            if error.retryable and attempt < self._context.settings.tries_max:
                raise
            _log.warning(
                "reclaiming %s was left to the scan: %s", "/".join(deadline.endpoint), error
            )
            return PodResolution((), f"left to the scan after {attempt} tries: {error}")

    async def _resolve(self, deadline: ReclaimDeadline) -> PodResolution:
        context = self._context
        claims_read = context.observer.moment()
        ledger = await read_endpoint(context.store, context.keys, deadline.endpoint)
        facts = await context.facts.facts(ledger, claims_read)
        first = None
        if facts.seen.observer != deadline.seen.observer:
            first = facts.seen
            deadline = deadline._replace(seen=first)
        rules = Rules(facts, context.settings, context.observer.now_s())
        decision = resolve(deadline, ledger, rules)
        if decision is None:
            return PodResolution((), NOTHING_LEFT)
        if isinstance(decision, KeptClaims):
            if decision.unanswered:
                raise NotReady(decision.why, subject="/".join(deadline.endpoint))
            return PodResolution((), decision.why, decision.until_s, first)
        done = await context.releases.make(decision)
        if not done.revision:
            again_s = rules.now_s + context.settings.trace_interval_s
            return PodResolution((), done.why, again_s, first)
        self.released += len(done.addresses)
        return PodResolution(done.addresses, str(decision.evidence))

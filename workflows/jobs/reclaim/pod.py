"""Reclaim one Pod: wait for its deadline, then release its addresses on evidence.

One execution for each Pod, id ``reclaim/<namespace>/<Pod>/<UID>``, started by a change of the Pod
(``change_listener``) or by a scan during its grace period. What it cannot decide or release after a
limited number of tries is left to the scan.

The activity reads the Pod again with its endpoint and claims alone, so that its cost does not grow
with the cluster. An observation of another process is replaced by one of this process, because
clocks of two processes cannot be compared; that delays the release by one observation gap.
"""

from __future__ import annotations

import logging
from typing import Final, NamedTuple

from core.domain.reclaim.decision_table import ReclaimDeadline, Rules
from core.domain.reclaim.evidence import Moment
from core.domain.reclaim.reclaim_plan import KeptClaims, resolve
from core.errors import NotReady, OrbweaverError
from core.eventstore.state import read_endpoint
from workflows.api import activity, workflow
from workflows.jobs.reclaim.context import ReclaimContext

NOTHING_LEFT = "its addresses were released before"

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
        first_seen = None
        if facts.seen.observer != deadline.seen.observer:
            first_seen = facts.seen
            deadline = deadline._replace(seen=first_seen)
        rules = Rules(facts, context.settings, context.observer.now_s())
        decision = resolve(deadline, ledger, rules)
        if decision is None:
            return PodResolution((), NOTHING_LEFT)
        if isinstance(decision, KeptClaims):
            if decision.unanswered:
                raise NotReady(decision.why, subject="/".join(deadline.endpoint))
            return PodResolution((), decision.why, decision.until_s, first_seen)
        done = await context.releases.make(decision)
        if not done.revision:
            until_s = rules.now_s + context.settings.trace_interval_s
            return PodResolution((), done.why, until_s, first_seen)
        self.released += len(done.addresses)
        return PodResolution(done.addresses, str(decision.evidence))


WORKFLOW_TYPE: Final = "reclaim-pod"
CHANGED: Final = "news"
"""The signal of a changed deadline, under its first name."""

RESOLVE_S: Final = 30.0
"""Seconds of one attempt."""

RESOLVES_MAX: Final = 100
"""Activities of one execution: a grace period that is prolonged more often is left to the scan."""


class ReclaimResult(NamedTuple):
    """The ``released`` addresses, and why."""

    released: tuple[str, ...]
    why: str


def workflow_id(deadline: ReclaimDeadline) -> str:
    """The workflow id of a Pod."""
    return f"reclaim/{deadline.endpoint[0]}/{deadline.pod}/{deadline.uid}"


@workflow.defn(name=WORKFLOW_TYPE)
class ReclaimPod:
    """The workflow. Its state is the Pod's deadline; a newer one arrives by signal."""

    def __init__(self) -> None:
        self._newer: ReclaimDeadline | None = None

    @workflow.run
    async def run(self, deadline: ReclaimDeadline, retry_s: float) -> ReclaimResult:
        """Resolve the Pod until nothing is left to wait for. ``retry_s``: between two attempts."""
        workflow.set_signal_handler(CHANGED, self._replace_deadline)
        for _ in range(RESOLVES_MAX):
            deadline = await self._until_due(deadline)
            resolution = await workflow.execute_activity(
                PodActivities.resolve, deadline, options=_options(retry_s)
            )
            if not resolution.until_s and self._newer is None:
                return ReclaimResult(resolution.released, resolution.why)
            deadline = _following(deadline, resolution)
        return ReclaimResult((), f"left to the scan after {RESOLVES_MAX} activities")

    def _replace_deadline(self, deadline: ReclaimDeadline) -> None:
        self._newer = deadline

    async def _until_due(self, deadline: ReclaimDeadline) -> ReclaimDeadline:
        """Wait until the deadline has passed; a signal may set another one."""
        while True:
            deadline, self._newer = _merged(deadline, self._newer), None
            remaining_s = deadline.stop_s - workflow.now().timestamp()
            if remaining_s <= 0:
                return deadline
            try:
                await workflow.wait_condition(lambda: self._newer is not None, remaining_s)
            except workflow.TimeoutError:
                return deadline


def _options(retry_s: float) -> workflow.ActivityOptions:
    # The activity itself gives up after its last attempt, so that no execution is paused.
    retry = workflow.RetryPolicy(
        initial_interval_s=retry_s, backoff_coefficient=1.0, maximum_interval_s=retry_s
    )
    return workflow.ActivityOptions(start_to_close_s=RESOLVE_S, retry=retry)


def _merged(deadline: ReclaimDeadline, newer: ReclaimDeadline | None) -> ReclaimDeadline:
    """A reported deletion is final; the first observation stays the first."""
    if newer is None or deadline.reason == "deleted":
        return deadline
    return newer if newer.reason == "deleted" else newer._replace(seen=deadline.seen)


def _following(deadline: ReclaimDeadline, resolution: PodResolution) -> ReclaimDeadline:
    """The deadline for the next activity, with the first observer."""
    return deadline._replace(
        deadline_s=resolution.until_s or deadline.deadline_s,
        seen=resolution.seen or deadline.seen,
    )

"""Reclaim one Pod: a change of the Pod starts an execution, which releases addresses on evidence.

The leader runs ``ChangeListener``. It misses changes while there is no leader, after a failure of
the watch, or when its queue is full. So it requests a scan whenever the watch starts. A Pod whose
activity keeps failing is left to the next scan. The cost of an activity does not grow with the
cluster.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple, NoReturn

from core.domain.events import Cause
from core.domain.evolution import RevisedClaim
from core.domain.reclaim.decision_table import (
    NoDeadline,
    PodDeadlines,
    ReclaimDeadline,
    VerdictContext,
    deadline_of,
)
from core.domain.reclaim.evidence import Moment
from core.domain.reclaim.reclaim_plan import KeptClaims, check_deadline
from core.domain.reclaim.settings import ReclaimSettings
from core.errors import NotReady, OrbweaverError
from core.eventstore.claim_cause import link_attributes
from core.eventstore.state_reader import read_endpoint
from core.process.retry import Backoff
from workflows.api import activity, workflow
from workflows.api.options import StartOptions
from workflows.engine.client.client import Client
from workflows.jobs.reclaim.reclaim_context import PodChange, ReclaimContext, ScanRequest
from workflows.model.errors import WorkflowError

WORKFLOW_TYPE: Final = "reclaim-pod"
CHANGED_SIGNAL: Final = "news"
"""The signal that a deadline has changed. Histories store this name: keep it."""

ATTEMPT_S: Final = 30.0
ACTIVITIES_MAX: Final = 100
"""After so many activities, an execution leaves the Pod to the scan."""

NOTHING_LEFT: Final = "its addresses were released before"
WATCH_PAUSE_S: Final = 0.5
WATCH_PAUSE_S_MAX: Final = 60.0
"""The pause grows until a change is received, because each start of the watch requests a scan."""

FAULTS: Final = (OrbweaverError, WorkflowError)
"""Failures of etcd, of the source of changes, or of one execution."""

FindCause = Callable[[RevisedClaim], Awaitable[Cause | None]]
"""Returns the cause of a claim's event, with the trace of the ADD."""

TRIGGERED_BY: Final = "triggered-by"
"""The kind of the trace link if it points to a Pod's change, not to the ADD."""

FOLLOWING_PODS: Final = "following changes of Pods"
"""Tests wait for this line of the log."""

_log: Final = logging.getLogger(__name__)


class PodOutcome(NamedTuple):
    """The outcome of one activity. ``why``: the evidence, or why no address was released.

    ``until_s``: when to run the activity again, Unix seconds; 0: never. ``seen``: replaces the
    first observation if another process made it, because clocks cannot be compared.
    """

    released: tuple[str, ...]
    why: str
    until_s: float = 0.0
    seen: Moment | None = None


class PodActivities:
    """The activity of ``ReclaimPod``. Counts ``released`` addresses and ``failed`` attempts."""

    def __init__(self, context: ReclaimContext) -> None:
        self._context = context
        self.released = 0
        self.failed = 0

    @activity.defn(name="reclaim-pod")
    async def reclaim(self, deadline: ReclaimDeadline) -> PodOutcome:
        """Release the Pod's addresses if evidence shows that the Pod is gone.

        Raises retryable errors. The last of ``tries_max`` attempts raises no error, and leaves the
        Pod to the scan.
        """
        try:
            return await self._reclaim(deadline)
        except OrbweaverError as error:
            self.failed += 1
            attempt = activity.info().attempt
            if error.retryable and attempt < self._context.settings.tries_max:
                raise
            _log.warning(
                "the reclaim of Pod %s is left to the next scan: %s",
                "/".join(deadline.endpoint),
                error,
            )
            return PodOutcome((), f"left to the scan after {attempt} tries: {error}")

    async def _reclaim(self, deadline: ReclaimDeadline) -> PodOutcome:
        context = self._context
        claims_read = context.observer.moment()
        ledger = await read_endpoint(context.store, context.keys, deadline.endpoint)
        facts = await context.facts.facts(ledger, claims_read)
        first_seen = None
        if facts.observed_at.observer != deadline.seen.observer:
            first_seen = facts.observed_at
            deadline = deadline._replace(seen=first_seen)
        verdict_context = VerdictContext(facts, context.settings, context.observer.now_s())
        decision = check_deadline(deadline, ledger, verdict_context)
        if decision is None:
            return PodOutcome((), NOTHING_LEFT)
        if isinstance(decision, KeptClaims):
            if decision.unanswered:
                raise NotReady(decision.why, subject="/".join(deadline.endpoint))
            return PodOutcome((), decision.why, decision.until_s, first_seen)
        done = await context.releases.make(decision)
        if not done.revision:
            until_s = verdict_context.now_s + context.settings.deadline_interval_s
            return PodOutcome((), done.why, until_s, first_seen)
        self.released += len(done.addresses)
        return PodOutcome(done.addresses, str(decision.evidence))


class ReclaimResult(NamedTuple):
    """The result of an execution; see ``PodOutcome``."""

    released: tuple[str, ...]
    why: str


def workflow_id(deadline: ReclaimDeadline) -> str:
    """The workflow id of the execution that reclaims a Pod."""
    return f"reclaim/{deadline.endpoint[0]}/{deadline.pod}/{deadline.uid}"


@workflow.defn(name=WORKFLOW_TYPE)
class ReclaimPod:
    """The workflow that releases the addresses of one Pod."""

    def __init__(self) -> None:
        self._newer_deadline: ReclaimDeadline | None = None

    @workflow.run
    async def run(self, deadline: ReclaimDeadline, retry_s: float) -> ReclaimResult:
        """Run the activity until the outcome is final. ``retry_s``: seconds between attempts."""
        workflow.set_signal_handler(CHANGED_SIGNAL, self._replace_deadline)
        result = ReclaimResult((), "")
        for _ in range(ACTIVITIES_MAX):
            deadline = await self._until_due(deadline)
            outcome = await workflow.execute_activity(
                PodActivities.reclaim, deadline, options=_options(retry_s)
            )
            # A signal during a release runs the activity again, which finds nothing left.
            if outcome.released or not result.released:
                result = ReclaimResult(result.released + outcome.released, outcome.why)
            if not outcome.until_s and self._newer_deadline is None:
                return result
            deadline = _next_deadline(deadline, outcome)
        why = f"left to the scan after {ACTIVITIES_MAX} activities"
        return ReclaimResult(result.released, why)

    def _replace_deadline(self, deadline: ReclaimDeadline) -> None:
        self._newer_deadline = deadline

    async def _until_due(self, deadline: ReclaimDeadline) -> ReclaimDeadline:
        """Wait for the deadline, and return it. A signal may replace it meanwhile."""
        while True:
            deadline, self._newer_deadline = _newest_deadline(deadline, self._newer_deadline), None
            remaining_s = deadline.expires_s - workflow.now().timestamp()
            if remaining_s <= 0:
                return deadline
            try:
                await workflow.wait_condition(lambda: self._newer_deadline is not None, remaining_s)
            except workflow.TimeoutError:
                return deadline


def _options(retry_s: float) -> workflow.ActivityOptions:
    # The activity itself limits the attempts, by ``tries_max``.
    retry = workflow.RetryPolicy(
        initial_interval_s=retry_s, backoff_coefficient=1.0, maximum_interval_s=retry_s
    )
    return workflow.ActivityOptions(start_to_close_s=ATTEMPT_S, retry=retry)


def _newest_deadline(deadline: ReclaimDeadline, newer: ReclaimDeadline | None) -> ReclaimDeadline:
    """Return ``newer`` with the first observation of ``deadline``.

    If either is for a reported deletion, return it unchanged.
    """
    if newer is None or deadline.reason == "deleted":
        return deadline
    return newer if newer.reason == "deleted" else newer._replace(seen=deadline.seen)


def _next_deadline(deadline: ReclaimDeadline, outcome: PodOutcome) -> ReclaimDeadline:
    return deadline._replace(
        deadline_s=outcome.until_s or deadline.deadline_s,
        seen=outcome.seen or deadline.seen,
    )


class DeadlineCause(NamedTuple):
    """The cause of a deadline: an event, its trace, and a claim of the Pod."""

    trigger: str = ""
    traceparent: str = ""
    claim: RevisedClaim | None = None


class PodExecutionStarter:
    """Starts executions of ``ReclaimPod``.

    An execution is linked to the trace of the ADD that ``find_cause`` returns.
    """

    def __init__(
        self, client: Client, settings: ReclaimSettings, find_cause: FindCause | None = None
    ) -> None:
        self._client = client
        self._retry_s = max(settings.deadline_interval_s, WATCH_PAUSE_S)
        self._find_cause = find_cause

    async def start(
        self, deadline: ReclaimDeadline, origin: DeadlineCause = DeadlineCause()
    ) -> None:
        """Start or signal the Pod's execution. Raises as ``Client.start_or_signal``."""
        traceparent, link = origin.traceparent, {"ipam.link": TRIGGERED_BY}
        if self._find_cause is not None and origin.claim is not None:
            cause = await self._find_cause(origin.claim)
            if cause is not None and cause.traceparent:
                traceparent, link = cause.traceparent, link_attributes(origin.claim.claim)
        options = StartOptions(
            search_attributes={"ReclaimReason": deadline.reason, "ReclaimNode": deadline.node},
            trigger=origin.trigger,
            traceparent=traceparent,
            link_attributes=link,
        )
        await self._client.start_or_signal(
            ReclaimPod,
            deadline,
            self._retry_s,
            id=workflow_id(deadline),
            signal=CHANGED_SIGNAL,
            signal_args=[deadline],
            options=options,
        )


class ObservedChange(NamedTuple):
    """A change, and when this process received it."""

    change: PodChange
    at: Moment


class ChangeListener:
    """Starts executions after changes of Pods, and counts the changes.

    A scan makes up for ``dropped`` changes. ``listening``: whether the watch is open.
    """

    def __init__(
        self,
        context: ReclaimContext,
        start_execution: Callable[[ReclaimDeadline, DeadlineCause], Awaitable[None]],
        scan_now: Callable[[], Awaitable[None]],
    ) -> None:
        self._context = context
        self._settings = context.settings
        self._start_execution = start_execution
        self._scan_now = scan_now
        self._deadlines = PodDeadlines(context.settings.deadlines_max)
        self.received = 0
        self.started = 0
        self.dropped = 0
        self.listening = False
        self._backoff = Backoff(WATCH_PAUSE_S, WATCH_PAUSE_S_MAX)

    async def run(self) -> NoReturn:
        """Follow changes until cancelled. Raises errors that are not retried."""
        queue: asyncio.Queue[ObservedChange] = asyncio.Queue(max(self._settings.queue_max, 1))
        async with asyncio.TaskGroup() as group:
            for _ in range(max(self._settings.workers, 1)):
                group.create_task(self._work(queue))
            while True:
                await self._watch(queue)

    async def _watch(self, queue: asyncio.Queue[ObservedChange]) -> None:
        """Queue changes until the watch fails, then pause."""
        await self._request_scan()
        try:
            self.listening = True
            _log.info(FOLLOWING_PODS)
            async for change in self._context.facts.changes():
                self._backoff.reset()
                if isinstance(change, ScanRequest):
                    _log.info("a scan is requested: %s", change.why)
                    await self._request_scan()
                    continue
                self.received += 1
                await self._queue(queue, ObservedChange(change, self._context.observer.moment()))
        except FAULTS as error:
            _log.warning("the watch of Pods failed; a scan finds the missed changes: %s", error)
        finally:
            self.listening = False
        await self._backoff.wait()

    async def _request_scan(self) -> None:
        """Request a scan. A failure is only logged, because the regular scan follows."""
        try:
            await self._scan_now()
        except FAULTS as error:
            _log.warning("cannot request a scan: %s", error)

    async def _queue(self, queue: asyncio.Queue[ObservedChange], observed: ObservedChange) -> None:
        try:
            async with asyncio.timeout(self._settings.queue_wait_s):
                await queue.put(observed)
        except TimeoutError:
            self._drop(observed, "the queue is full (SPIDERPOOL_GC_CHANNEL_BUFFER)")

    async def _work(self, queue: asyncio.Queue[ObservedChange]) -> NoReturn:
        while True:
            observed = await queue.get()
            try:
                await self.handle(observed)
            except FAULTS as error:
                self._drop(observed, str(error))

    async def handle(self, observed: ObservedChange) -> None:
        """Start an execution if the change needs one. Raises ``FAULTS``."""
        change, pod = observed.change, observed.change.pod
        key = pod.endpoint_key(self._settings)
        ledger = await read_endpoint(self._context.store, self._context.keys, key)
        endpoint = ledger.endpoints.get(key)
        if endpoint is None or endpoint.uid != pod.uid:
            return
        facts = await self._context.facts.facts(ledger, self._context.observer.moment())
        deadline = deadline_of(
            pod, facts, self._settings, observed.at, deleted=change.deletion_report
        )
        if isinstance(deadline, NoDeadline):
            return
        self._forget_passed_deadlines()
        if not self._deadlines.put(deadline):
            self._drop(observed, "too many Pods are tracked (SPIDERPOOL_GC_MAX_PODENTRY_DB_CAP)")
            return
        claim = next(iter(ledger.claims.values()), None)
        await self._start_execution(
            deadline, DeadlineCause(change.trigger, change.traceparent, claim)
        )
        self.started += 1

    def _forget_passed_deadlines(self) -> None:
        if len(self._deadlines) >= self._settings.deadlines_max:
            for deadline in self._deadlines.due(self._context.observer.now_s()):
                self._deadlines.forget(deadline.uid)

    def _drop(self, observed: ObservedChange, why: str) -> None:
        self.dropped += 1
        pod = observed.change.pod
        _log.warning(
            "Pod %s/%s is not tracked, the next scan will check it: %s",
            pod.namespace,
            pod.name,
            why,
        )

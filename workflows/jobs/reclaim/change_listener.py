"""Follows changes of Pods, and starts an execution for each Pod whose addresses may be free.

Only the leader runs it. A change that is missed (there was no leader, the watch failed, the queue
was full) is found by the next scan, and a scan is requested whenever the watch starts. A missing
change is never evidence. A change without addresses starts nothing: a Pod whose DEL arrived costs
one read.
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
    ReclaimDeadline,
    ReclaimDeadlines,
    deadline_of,
)
from core.domain.reclaim.evidence import Moment
from core.domain.reclaim.settings import ReclaimSettings
from core.errors import OrbweaverError
from core.eventstore.claim_cause import link_attributes
from core.eventstore.state import read_endpoint
from core.process.retry import Backoff
from workflows.api.options import StartOptions
from workflows.engine.client.client import Client
from workflows.jobs.reclaim.context import PodChange, ReclaimContext, ScanRequest
from workflows.jobs.reclaim.pod import CHANGED, ReclaimPod, workflow_id
from workflows.model.errors import WorkflowError

WATCH_PAUSE_S: Final = 0.5
WATCH_PAUSE_S_MAX: Final = 60.0
"""Before the watch starts again after a failure; doubled until a change is received, because each
start requests a scan."""

FAULTS: Final = (OrbweaverError, WorkflowError)
"""Failures of the store, of the source, and of an execution that accepts no more signals."""

FindCause = Callable[[RevisedClaim], Awaitable[Cause | None]]

TRIGGERED_BY: Final = "triggered-by"
"""The kind of the link of an execution's first span to that of the change, without the ADD's."""

FOLLOWING: Final = "following changes of Pods"
"""The log line of a listener that has caught up: the laboratory waits for it."""

_log: Final = logging.getLogger(__name__)


class DeadlineCause(NamedTuple):
    """The cause of a deadline: the event of the change, and one of the Pod's claims."""

    trigger: str = ""
    traceparent: str = ""
    held: RevisedClaim | None = None


class WorkflowStarter:
    """Starts executions of Pods.

    With ``find_cause`` an execution is linked to the CNI call that claimed the addresses.
    """

    def __init__(
        self, client: Client, settings: ReclaimSettings, find_cause: FindCause | None = None
    ) -> None:
        self._client = client
        self._retry_s = max(settings.trace_interval_s, WATCH_PAUSE_S)
        self._find_cause = find_cause

    async def start(
        self, deadline: ReclaimDeadline, origin: DeadlineCause = DeadlineCause()
    ) -> None:
        """Start the Pod's execution, or signal it. Raises as ``Client.start_or_signal``."""
        traceparent, link = origin.traceparent, {"ipam.link": TRIGGERED_BY}
        if self._find_cause is not None and origin.held is not None:
            cause = await self._find_cause(origin.held)
            if cause is not None and cause.traceparent:
                traceparent, link = cause.traceparent, link_attributes(origin.held.claim)
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
            signal=CHANGED,
            signal_args=[deadline],
            options=options,
        )


class ObservedChange(NamedTuple):
    """A change, and when it was received: the first observation."""

    change: PodChange
    seen: Moment


class ChangeListener:
    """``received``, ``started`` and ``dropped`` count changes; a scan finds the dropped ones."""

    def __init__(
        self,
        context: ReclaimContext,
        start: Callable[[ReclaimDeadline, DeadlineCause], Awaitable[None]],
        scan_now: Callable[[], Awaitable[None]],
    ) -> None:
        self._context = context
        self._settings = context.settings
        self._start = start
        self._scan_now = scan_now
        self._deadlines = ReclaimDeadlines(context.settings.traces_max)
        self.received = 0
        self.started = 0
        self.dropped = 0
        self.listening = False
        self._backoff = Backoff(WATCH_PAUSE_S, WATCH_PAUSE_S_MAX)

    @property
    def waiting(self) -> int:
        """Pods with a deadline that has not passed, as far as this listener has started them."""
        return len(self._deadlines)

    async def run(self) -> NoReturn:
        """Follow changes until cancelled. Raises errors that are not retried."""
        queue: asyncio.Queue[ObservedChange] = asyncio.Queue(max(self._settings.queue_max, 1))
        async with asyncio.TaskGroup() as group:
            for _ in range(max(self._settings.workers, 1)):
                group.create_task(self._work(queue))
            while True:
                await self._watch(queue)

    async def _watch(self, queue: asyncio.Queue[ObservedChange]) -> None:
        """Queue changes until the watch fails."""
        await self._request_scan()
        try:
            self.listening = True
            _log.info(FOLLOWING)
            async for change in self._context.facts.changes():
                self._backoff.reset()
                if isinstance(change, ScanRequest):
                    _log.info("a scan is requested: %s", change.why)
                    await self._request_scan()
                    continue
                self.received += 1
                await self._queue(queue, ObservedChange(change, self._context.observer.moment()))
        except FAULTS as error:
            _log.warning("the watch of Pods failed; a scan finds what it misses: %s", error)
        finally:
            self.listening = False
        await self._backoff.wait()

    async def _request_scan(self) -> None:
        """Request a scan for changes that were missed. If that fails the regular scan follows."""
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
                await self.take(observed)
            except FAULTS as error:
                self._drop(observed, str(error))

    async def take(self, observed: ObservedChange) -> None:
        """Start an execution if the change needs one. Raises ``FAULTS``."""
        change, pod = observed.change, observed.change.pod
        key = pod.endpoint_key(self._settings)
        ledger = await read_endpoint(self._context.store, self._context.keys, key)
        endpoint = ledger.endpoints.get(key)
        if endpoint is None or endpoint.uid != pod.uid:
            return
        facts = await self._context.facts.facts(ledger, self._context.observer.moment())
        deadline = deadline_of(
            pod, facts, self._settings, observed.seen, deleted=change.deletion_report
        )
        if isinstance(deadline, NoDeadline):
            return
        self._forget_passed()
        if not self._deadlines.put(deadline):
            self._drop(observed, "too many Pods are tracked (SPIDERPOOL_GC_MAX_PODENTRY_DB_CAP)")
            return
        held = next(iter(ledger.claims.values()), None)
        await self._start(deadline, DeadlineCause(change.trigger, change.traceparent, held))
        self.started += 1

    def _forget_passed(self) -> None:
        if len(self._deadlines) >= self._settings.traces_max:
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

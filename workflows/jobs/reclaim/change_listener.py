"""Hears what happens to Pods, and begins an execution for each whose addresses may be free.

One controller listens, the one that leads. Nothing heard is ever evidence by being missing: what
was not heard (nobody led, the watch broke, the queue was full) is found by the next scan, and one
is asked for whenever listening begins. News without addresses behind it begins nothing, so that a
Pod whose DEL arrived costs one read.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple, NoReturn

from core.domain.events import Cause
from core.domain.evolution import RevisedClaim
from core.domain.reclaim.deadlines import NoDeadline, ReclaimDeadline, ReclaimDeadlines, trace
from core.domain.reclaim.evidence import Moment
from core.domain.reclaim.settings import ReclaimSettings
from core.errors import AlreadyStarted, ExecutionNotFound, OrbweaverError
from core.eventstore.state import read_endpoint
from workflows.engine.client.client import Client
from workflows.engine.client.start_transactions import StartOptions
from workflows.jobs.reclaim.facts import PodChange, ScanRequest
from workflows.jobs.reclaim.pod import NEWS, ReclaimPod, workflow_id
from workflows.jobs.reclaim.releases import ReclaimContext
from workflows.model.errors import WorkflowError

AWAY_PAUSE_S: Final = 0.5
AWAY_PAUSE_S_MAX: Final = 60.0
"""Before listening begins anew after it broke off: each time twice as long, since each time a scan
is asked for, until something is heard."""

BEGINS_MAX: Final = 3
"""Attempts to tell an execution that closes and begins at the same time."""

FAULTS: Final = (OrbweaverError, WorkflowError)
"""Of the store, of the source, of an execution that takes no more signals."""

FindCause = Callable[[RevisedClaim], Awaitable[Cause | None]]

_log: Final = logging.getLogger(__name__)


class DeadlineCause(NamedTuple):
    """What is behind a trace: the event that was heard, and one of the Pod's claims."""

    trigger: str = ""
    traceparent: str = ""
    held: RevisedClaim | None = None


class WorkflowStarter:
    """Begins executions through a client of the jobs' queue.

    With ``find_cause`` an execution is linked to the CNI call that claimed the addresses.
    """

    def __init__(
        self, client: Client, settings: ReclaimSettings, find_cause: FindCause | None = None
    ) -> None:
        self._client = client
        self._retry_s = max(settings.trace_interval_s, AWAY_PAUSE_S)
        self._find_cause = find_cause

    async def begin(self, one: ReclaimDeadline, origin: DeadlineCause = DeadlineCause()) -> None:
        """See that the Pod's execution is there and knows this. Raises what the client raises."""
        traceparent = origin.traceparent
        if self._find_cause is not None and origin.held is not None:
            cause = await self._find_cause(origin.held)
            traceparent = (cause.traceparent if cause is not None else "") or traceparent
        options = StartOptions(
            search_attributes={"ReclaimReason": one.reason, "ReclaimNode": one.node},
            trigger=origin.trigger,
            traceparent=traceparent,
        )
        name = workflow_id(one)
        for attempt in range(1, BEGINS_MAX + 1):
            try:
                await self._client.start(ReclaimPod, one, self._retry_s, id=name, options=options)
            except AlreadyStarted:
                try:
                    await self._client.signal(name, NEWS, one)
                except ExecutionNotFound:
                    if attempt == BEGINS_MAX:
                        raise
                    continue
            return


class ObservedChange(NamedTuple):
    """A change, and when it was heard: the first observation."""

    change: PodChange
    seen: Moment


class ChangeListener:
    """``heard``, ``begun`` and ``left`` count changes since the start; ``left``: to the scan."""

    def __init__(
        self,
        means: ReclaimContext,
        begin: Callable[[ReclaimDeadline, DeadlineCause], Awaitable[None]],
        scan_now: Callable[[], Awaitable[None]],
    ) -> None:
        self._means = means
        self._settings = means.settings
        self._begin = begin
        self._scan_now = scan_now
        self._book = ReclaimDeadlines(means.settings.traces_max)
        self.heard = 0
        self.begun = 0
        self.left = 0
        self.listening = False
        self._pause_s = AWAY_PAUSE_S

    @property
    def waiting(self) -> int:
        """Pods whose time has not come yet, as far as this listener has begun them."""
        return len(self._book)

    async def run(self) -> NoReturn:
        """Listen until cancelled. Raises what no retry helps."""
        queue: asyncio.Queue[ObservedChange] = asyncio.Queue(max(self._settings.queue_max, 1))
        async with asyncio.TaskGroup() as group:
            for _ in range(max(self._settings.workers, 1)):
                group.create_task(self._act(queue))
            while True:
                await self._hear(queue)

    async def _hear(self, queue: asyncio.Queue[ObservedChange]) -> None:
        """Until the changes break off."""
        await self._make_up()
        try:
            self.listening = True
            _log.info("listening to news of Pods")
            async for change in self._means.facts.changes():
                self._pause_s = AWAY_PAUSE_S
                if isinstance(change, ScanRequest):
                    _log.info("a scan is asked for: %s", change.why)
                    await self._make_up()
                    continue
                self.heard += 1
                await self._queue(queue, ObservedChange(change, self._means.observer.moment()))
        except FAULTS as error:
            _log.warning("news of Pods broke off, a scan makes up for it: %s", error)
        finally:
            self.listening = False
        await asyncio.sleep(self._pause_s)
        self._pause_s = min(2 * self._pause_s, AWAY_PAUSE_S_MAX)

    async def _make_up(self) -> None:
        """Ask for a scan, for whatever nobody has heard. Without it the next one finds it."""
        try:
            await self._scan_now()
        except FAULTS as error:
            _log.warning("no scan could be asked for: %s", error)

    async def _queue(self, queue: asyncio.Queue[ObservedChange], one: ObservedChange) -> None:
        try:
            async with asyncio.timeout(self._settings.queue_wait_s):
                await queue.put(one)
        except TimeoutError:
            self._leave(one, "the queue is full (SPIDERPOOL_GC_CHANNEL_BUFFER)")

    async def _act(self, queue: asyncio.Queue[ObservedChange]) -> NoReturn:
        while True:
            one = await queue.get()
            try:
                await self.take(one)
            except FAULTS as error:
                self._leave(one, str(error))

    async def take(self, one: ObservedChange) -> None:
        """Begin what the news calls for. Raises StoreUnavailable, and what beginning raises."""
        change, pod = one.change, one.change.pod
        key = pod.endpoint_key(self._settings)
        ledger = await read_endpoint(self._means.store, self._means.keys, key)
        endpoint = ledger.endpoints.get(key)
        if endpoint is None or endpoint.uid != pod.uid:
            return
        facts = await self._means.facts.facts(ledger, self._means.observer.moment())
        found = trace(pod, facts, self._settings, one.seen, deleted=change.deleted)
        if isinstance(found, NoDeadline):
            return
        self._forget_what_is_over()
        if not self._book.put(found):
            self._leave(one, "no trace has room (SPIDERPOOL_GC_MAX_PODENTRY_DB_CAP)")
            return
        held = next(iter(ledger.claims.values()), None)
        await self._begin(found, DeadlineCause(change.trigger, change.traceparent, held))
        self.begun += 1

    def _forget_what_is_over(self) -> None:
        if len(self._book) >= self._settings.traces_max:
            for one in self._book.due(self._means.observer.now_s()):
                self._book.forget(one.uid)

    def _leave(self, one: ObservedChange, why: str) -> None:
        self.left += 1
        pod = one.change.pod
        _log.warning("%s/%s is left to the scan: %s", pod.namespace, pod.name, why)

"""A worker: runs the executions of one task queue, session after session.

A worker opens a session (a lease in the store), claims its share of the shards of executions, and
works until the session is lost. Then the worker drops all state, and opens another session.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from types import TracebackType
from typing import Any, NamedTuple, Self

from core.errors import OrbweaverError
from core.eventstore.keys import Keys
from core.eventstore.kv import KeyValueStore
from core.eventstore.undecodable_values import Faults
from core.process.retry import Backoff
from workflows.api.definitions import Registry
from workflows.engine.clock import Clock, Deadlines, SystemClock
from workflows.engine.run.execution import ExecutionParts
from workflows.engine.run.run_inbox import ReplyWriter
from workflows.engine.run.run_interpreter import InterpreterCache, InterpreterParts
from workflows.engine.store.draft import ExecutionStore
from workflows.engine.store.keys import DEFAULT_QUEUE, WorkflowKeys
from workflows.engine.store.records import RunHead
from workflows.engine.store.session import WORKER_TTL_S, Committer, open_session
from workflows.engine.store.unusable_values import WorkerFaults
from workflows.engine.telemetry import Telemetry
from workflows.engine.worker.activities import ACTIVITY_SLOTS, ActivityHost
from workflows.engine.worker.retention import Archive
from workflows.engine.worker.threads import ACTIVITY_THREADS_MAX
from workflows.engine.worker.worker_session import WorkerTerm
from workflows.model.limits import STICKY_CACHE_RUNS_MAX
from workflows.model.policies import ExecutionStatus
from workflows.schedules.scheduler import Scheduler

SESSION_PAUSE_S = 0.5
"""Seconds before another session is opened; doubled until a session has claimed its shards."""

SESSION_PAUSE_S_MAX = 30.0

_log = logging.getLogger(__name__)


class WorkerOptions(NamedTuple):
    """Options of a worker.

    ``slots``: concurrent async activities. ``threads``: concurrent plain activities.
    Without an ``archive``, closed executions stay in the store.
    """

    queue: str = DEFAULT_QUEUE
    ttl_s: int = WORKER_TTL_S
    slots: int = ACTIVITY_SLOTS
    cached_runs: int = STICKY_CACHE_RUNS_MAX
    archive: Archive | None = None
    threads: int = ACTIVITY_THREADS_MAX


class Worker:
    """Runs executions between ``start`` and ``close``, or as a context manager."""

    def __init__(
        self,
        store: KeyValueStore,
        keys: Keys,
        registry: Registry,
        *,
        name: str,
        options: WorkerOptions = WorkerOptions(),
        clock: Clock | None = None,
        telemetry: Telemetry | None = None,
        faults: Faults | None = None,
    ) -> None:
        self.name = name
        self.term: WorkerTerm | None = None  # the work of the current session
        self.sessions = 0
        self.faults = WorkerFaults(keys, faults)
        self.on_closed: list[Callable[[RunHead], None]] = []
        self._store = store
        self._keys = WorkflowKeys(keys, options.queue)
        registry.include(Scheduler)
        self._registry = registry
        self._options = options
        self._clock = clock or SystemClock()
        self._telemetry = telemetry or Telemetry()
        self._telemetry.register_types(registry.workflows)
        self._running: asyncio.Task[None] | None = None
        self._is_ready = asyncio.Event()

    @property
    def is_working(self) -> bool:
        """Whether the worker owns its share of the shards."""
        return self._is_ready.is_set()

    @property
    def shards(self) -> list[int]:
        """The numbers of the shards that the worker owns."""
        return sorted(self.term.shards) if self.term is not None else []

    def tasks(self) -> set[asyncio.Task[Any]]:
        """The running steps, messages, replies and attempts."""
        return self.term.tasks_under_way() if self.term is not None else set()

    def open_executions(self) -> Counter[ExecutionStatus]:
        """The number of open executions in the worker's shards, by status."""
        shards = self.term.shards.values() if self.term is not None else ()
        return Counter(
            execution.head.status for shard in shards for execution in shard.executions.values()
        )

    async def __aenter__(self) -> Self:
        self.start()
        await self.ready()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    def start(self) -> None:
        """Start working."""
        self._running = asyncio.ensure_future(self.run())

    async def ready(self) -> None:
        """Wait until ``is_working``. Raises the error that ended the worker."""
        assert self._running is not None, "ready was called before start"
        ready_task = asyncio.ensure_future(self._is_ready.wait())
        await asyncio.wait({ready_task, self._running}, return_when=asyncio.FIRST_COMPLETED)
        ready_task.cancel()
        if self._running.done():
            self._running.result()

    async def run(self) -> None:
        """Work, session after session, until cancelled."""
        backoff = Backoff(SESSION_PAUSE_S, SESSION_PAUSE_S_MAX)
        while True:
            try:
                await self._run_session()
            except OrbweaverError as error:
                _log.warning("workflow worker %s opens a new session: %s", self.name, error)
            if self._is_ready.is_set():
                backoff.reset()
            self._is_ready.clear()
            await backoff.wait()

    async def close(self) -> None:
        """Finish running work, and release the shards."""
        term = self.term
        if term is not None:
            await term.drain()
            await self._stop()
            await term.parts.store.committer.close()
            await term.session.close()
        else:
            await self._stop()

    async def abandon(self) -> None:
        """Stop like a killed process: release nothing, and leave requests in flight."""
        term = self.term
        if term is not None:
            term.session.abandon()
            term.parts.store.committer.abandon()
        await self._stop()

    async def _stop(self) -> None:
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait({self._running})

    async def _run_session(self) -> None:
        options, clock = self._options, self._clock
        session = await open_session(self._store, self._keys, self.name, ttl_s=options.ttl_s)
        self.sessions += 1
        self.faults.clear_all()
        cache = InterpreterCache(options.cached_runs)
        parts = ExecutionParts(
            ExecutionStore(
                self._store,
                self._keys,
                Committer(self._store, session),
                clock,
                self.faults,
                session.name,
            ),
            InterpreterParts(self._registry, cache, self._telemetry),
            ActivityHost(
                self._registry,
                clock,
                self._telemetry,
                slots=options.slots,
                threads=options.threads,
            ),
            Deadlines(clock),
            ReplyWriter(self._store, self._keys),
        )
        self.term = WorkerTerm(
            parts,
            session,
            on_closed=self._notify_closed,
            ready=self._is_ready,
            archive=options.archive,
        )
        await self.term.run()

    def _notify_closed(self, head: RunHead) -> None:
        for notify in self.on_closed:
            notify(head)

"""A worker: one process's session, its shards, and everything that goes on in them.

It watches one range, claims its share of the shards, and works until its session is lost; then it
drops all it had and begins anew under another session. Any worker can do any execution's work.
It never writes but through its committer, so a worker that is out of date writes nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Any, NamedTuple, Self

from core.errors import Compacted, OrbweaverError, SessionLost, StoreUnavailable
from core.eventstore.faults import Faults
from core.eventstore.keys import Keys
from core.eventstore.kv import Absent, Get, KeyChange, KeyValueStore, Put, ReadResult, Unchanged
from core.eventstore.retry_policies import waiting_for_store
from workflows.api.definitions import Registry
from workflows.engine.clock import Clock, SystemClock
from workflows.engine.store.committer import Committer
from workflows.engine.store.faults import UNREADABLE, WorkerFaults
from workflows.engine.store.keys import DEFAULT_QUEUE, WorkflowKeys
from workflows.engine.store.records import RunHead
from workflows.engine.store.session import WORKER_TTL_S, WorkerSession, open_session
from workflows.engine.telemetry import Telemetry
from workflows.engine.worker.activities import SLOTS, ActivityHost
from workflows.engine.worker.deadlines import Deadlines
from workflows.engine.worker.interpreter_cache import StickyCache, WorkerContext
from workflows.engine.worker.ownership import Ownership
from workflows.engine.worker.retention import Archive, prune, retire
from workflows.engine.worker.shard import Shard
from workflows.engine.worker.threads import ACTIVITY_THREADS_MAX
from workflows.model.limits import STICKY_CACHE_RUNS_MAX
from workflows.model.policies import ExecutionStatus

PAUSE_S = 0.5
"""Between two sessions, after something failed; doubled while none of them gets to work."""

PAUSE_S_MAX = 30.0

DRAIN_S_MAX = 5.0
"""How long a worker that is closed lets its activities come to an end, and then its steps."""

_log = logging.getLogger(__name__)


class WorkerOptions(NamedTuple):
    """How a worker works: async activities in ``slots``, plain ones in ``threads``.

    ``archive`` None: closed executions stay in the store. ``cached_runs`` 0: every workflow task
    replays its history.
    """

    queue: str = DEFAULT_QUEUE
    ttl_s: int = WORKER_TTL_S
    slots: int = SLOTS
    cached_runs: int = STICKY_CACHE_RUNS_MAX
    archive: Archive | None = None
    threads: int = ACTIVITY_THREADS_MAX


class WorkerTerm:
    """One session of a worker: everything in it ends with the session."""

    def __init__(
        self,
        desk: WorkerContext,
        session: WorkerSession,
        on_closed: Callable[[RunHead], None],
        ready: asyncio.Event,
        options: WorkerOptions,
    ) -> None:
        self.session = session
        self.shards: dict[int, Shard] = {}
        self._ready = ready
        self._options = options
        self._changed = asyncio.Event()
        self.desk = desk._replace(closings=on_closed, dispossessed=self._dispossessed)
        keys = desk.keys
        self._holders = [Get(*keys.room("wake/owner")), Get(*keys.room("wake/worker"))]
        self._ownership = Ownership(keys, session, desk.committer, self, desk.faults)
        self._tasks: list[asyncio.Task[None]] = []

    # ------------------------------------------------------------------ gaining and losing

    async def gain(self, shard: int, fence: Unchanged) -> None:
        """Load a shard and go on with its executions."""
        if shard in self.shards:  # its owner's key was overwritten, and is ours anew
            await self.give_up(shard)
        found = self.shards[shard] = Shard(self.desk, shard, fence)
        self.desk.telemetry.shard_taken()
        await waiting_for_store()(found.load)

    async def give_up(self, shard: int) -> None:
        """Stop a shard; nothing of it is in flight afterwards."""
        found = self.shards.pop(shard)
        found.stop()
        await found.settled()
        self.desk.faults.clear_shard(shard)

    def _dispossessed(self, shard: int) -> None:
        """Somebody took a shard's key away: no harm is done, but this view is out of date."""
        self.shards.pop(shard, None)
        self.desk.faults.clear_shard(shard)
        self.session.lose()

    # ------------------------------------------------------------------------------ running

    async def run(self) -> None:
        """Work until the session is lost. Raises what is no use to be tried again."""
        desk = self.desk
        found: ReadResult = await waiting_for_store()(desk.store.read, self._holders)
        await self._ownership.join()
        await self._tell_types()
        self._changed.set()
        work = [self._watch(found.revision), self._balance(), desk.alarms.run(), self._retire()]
        self._tasks = [asyncio.ensure_future(each) for each in work]
        lost = asyncio.ensure_future(self.session.lost.wait())
        try:
            done, _ = await asyncio.wait({lost, *self._tasks}, return_when=asyncio.FIRST_COMPLETED)
            for task in done - {lost}:
                task.result()
        finally:
            lost.cancel()
            await self.end()

    async def _tell_types(self) -> None:
        """Record which workflow types there are workers for; the keys stay."""
        keys = [self.desk.keys.type(name) for name in self.desk.registry.workflows]
        told = [self.desk.committer.propose([Absent(key)], [Put(key, b"")]) for key in keys]
        await asyncio.gather(*told)

    async def end(self) -> None:
        """Stop everything here."""
        self.session.abandon()
        for shard in list(self.shards.values()):
            shard.stop()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def tasks_under_way(self) -> set[asyncio.Task[Any]]:
        """Steps, messages, replies and attempts that have not ended."""
        activities = self.desk.activities
        under_way = {*self.desk.background, *activities.running, *activities.at_work}
        return under_way.union(*(shard.tasks_under_way() for shard in self.shards.values()))

    async def drain(self) -> None:
        """Take no more shards, and wait a while for what is at work."""
        with suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_S_MAX):
                await self.desk.activities.idle()
        with suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_S_MAX):
                for shard in list(self.shards.values()):
                    await shard.settled()

    async def _watch(self, revision: int) -> None:
        whole = self.desk.keys.room("wake")
        async for batch in self.desk.store.watch([whole], after=revision):
            # By key within a revision: the message that begins an execution comes before the mail
            # that was sent with it.
            for change in sorted(batch.changes, key=lambda each: (each.mod_revision, each.key)):
                self._see(change)

    def _see(self, change: KeyChange) -> None:
        """One change; a key that cannot be read is listed, and stops no other."""
        try:
            self._hand_over(change)
        except UNREADABLE as error:
            self.desk.faults.note("key", change.key, error, "delete the key: nothing reads it")

    def _hand_over(self, change: KeyChange) -> None:
        kind, rest = self.desk.keys.tail(change.key)
        if kind in ("owner", "worker"):
            if self._ownership.observe(change):
                self._changed.set()
            return
        if change.value is None:
            self.desk.faults.clear(change.key)
            return
        shard = self.shards.get(int(rest[:2], 16))
        if shard is None:
            return
        if kind == "inbox":
            shard.message(change.key, change.value, change.mod_revision)
        else:
            shard.mail(rest[3:], change.mod_revision)

    async def _balance(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            found: ReadResult = await waiting_for_store()(self.desk.store.read, self._holders)
            await self._ownership.balance(kv for answer in found.ranges for kv in answer.kvs)
            self._ready.set()

    async def _retire(self) -> None:
        archive = self._options.archive
        if archive is None:
            await asyncio.Event().wait()
            return
        while True:
            await asyncio.sleep(archive.sweep_s)
            try:
                for shard in list(self.shards.values()):
                    left = True
                    while left:
                        left = await retire(self.desk, shard.closed_runs, shard.fence, archive) > 0
                left = True
                while left:
                    left = await prune(self.desk, archive) > 0
            except OSError as error:
                _log.warning("the archive cannot be written; closed executions stay: %s", error)
            except StoreUnavailable as error:
                _log.warning("closed executions are archived later: %s", error)


class Worker:
    """Works for one task queue; as a context manager it is at work inside."""

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
        self.term: WorkerTerm | None = None
        self.sessions = 0
        self.faults = WorkerFaults(keys, faults)
        self.on_closed: list[Callable[[RunHead], None]] = []
        self._store = store
        self._keys = WorkflowKeys(keys, options.queue)
        self._registry = registry
        self._options = options
        self._clock = clock or SystemClock()
        self._telemetry = telemetry or Telemetry()
        self._telemetry.introduce(registry.workflows)
        self._running: asyncio.Task[None] | None = None
        self._is_ready = asyncio.Event()

    @property
    def at_work(self) -> bool:
        """Whether it has its share of the shards."""
        return self._is_ready.is_set()

    @property
    def shards(self) -> list[int]:
        """The shards it owns now."""
        return sorted(self.term.shards) if self.term is not None else []

    def tasks(self) -> set[asyncio.Task[Any]]:
        """Everything under way in its executions and activities at this moment."""
        return self.term.tasks_under_way() if self.term is not None else set()

    def open_executions(self) -> Counter[ExecutionStatus]:
        """How many executions there are in its shards, by status."""
        shards = self.term.shards.values() if self.term is not None else ()
        return Counter(one.head.status for shard in shards for one in shard.executions.values())

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
        """Begin to work."""
        self._running = asyncio.ensure_future(self.run())

    async def ready(self) -> None:
        """Wait until it has its share of the shards. Raises what ended it."""
        assert self._running is not None, "start comes first"
        waiting = asyncio.ensure_future(self._is_ready.wait())
        await asyncio.wait({waiting, self._running}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if self._running.done():
            self._running.result()

    async def run(self) -> None:
        """Work, session after session, until cancelled."""
        tries = 0
        while True:
            try:
                await self._one_session()
            except (SessionLost, Compacted) as error:
                _log.warning("workflow worker %s begins anew: %s", self.name, error)
            except OrbweaverError as error:
                _log.warning("workflow worker %s waits for the store: %s", self.name, error)
            tries = 0 if self._is_ready.is_set() else tries + 1
            self._is_ready.clear()
            await asyncio.sleep(min(PAUSE_S * 2 ** min(tries, 10), PAUSE_S_MAX))

    async def close(self) -> None:
        """End in good order: others take over at once."""
        term = self.term
        if term is not None:
            await term.drain()
            await self._stop()
            await term.desk.committer.close()
            await term.session.close()
        else:
            await self._stop()

    async def abandon(self) -> None:
        """End as a killed process does: nothing is given back, what is in flight stays so."""
        term = self.term
        if term is not None:
            term.session.abandon()
            term.desk.committer.abandon()
        await self._stop()

    async def _stop(self) -> None:
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait({self._running})

    async def _one_session(self) -> None:
        options, clock = self._options, self._clock
        session = await open_session(self._store, self._keys, self.name, ttl_s=options.ttl_s)
        self.sessions += 1
        self.faults.clear_all()
        desk = WorkerContext(
            store=self._store,
            keys=self._keys,
            committer=Committer(self._store, session),
            registry=self._registry,
            clock=clock,
            alarms=Deadlines(clock),
            activities=ActivityHost(
                self._registry,
                clock,
                self._telemetry,
                slots=options.slots,
                threads=options.threads,
            ),
            cache=StickyCache(options.cached_runs),
            telemetry=self._telemetry,
            identity=session.name,
            background=set(),
            faults=self.faults,
            closings=_nobody,
            dispossessed=_nobody,
        )
        self.term = WorkerTerm(desk, session, self._tell_closed, self._is_ready, options)
        await self.term.run()

    def _tell_closed(self, head: RunHead) -> None:
        for tell in self.on_closed:
            tell(head)


def _nobody(_: object) -> None:
    return

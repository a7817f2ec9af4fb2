"""Who wakes the executions of automatic pools: applications that changed, needs, what became free.

Nothing is polled. The sweep compares applications with their pools whenever either has changed, by
the same pure plan that the activity makes, and starts an execution only where there is something to
do. Executions that wait say in their report for what: a subnet whose pools changed, or an address
of a pool that was released, wakes them. A wake too many costs one look, a lost one costs
``LOOK_AGAIN_S``; so whoever leads may change at any time. It never changes a pool itself.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from functools import partial
from itertools import islice
from typing import Final, NamedTuple

from core.allocation.pool_requests import POOL_REQUESTS, REPORTS, ReconcileReport
from core.domain.autopools.application_plan import plan_application
from core.domain.autopools.applications import Application
from core.domain.autopools.names import ApplicationKey, application_of, is_reclaimable
from core.domain.configuration.configuration_state import pool_addresses
from core.domain.fixed.owners import MissingOwner
from core.domain.model import Pool
from core.errors import Compacted, OrbweaverError
from core.eventstore.kinds import key_text
from core.eventstore.kv import Get, KeyChange
from core.eventstore.retry_policies import waiting_for_store
from core.process.concurrency import until_all
from core.process.retry import Backoff, until_done
from core.projections.configuration_view import ConfigurationSnapshot
from workflows.engine.client.client import Client
from workflows.engine.store.faults import OF_ONE_EXECUTION
from workflows.jobs.autopools.application import WAKE, AutoPools, workflow_id
from workflows.jobs.autopools.pool_activities import PoolPlanner
from workflows.jobs.required_executions import RequiredExecution, ensure_execution

GAP_S: Final = 0.05
"""Between two sweeps: what changes together is looked at together."""

RETRY_PAUSE_S: Final = 0.5
"""Before a part that failed is started again."""

WHAT: Final = "the watch for automatic pools"

RANGES_MAX: Final = 512
"""Pools whose releases are watched; executions about others wait for ``LOOK_AGAIN_S``."""

TOGETHER_MAX: Final = 100
"""Executions that are woken at once."""

_TOPICS: Final = ("pools", "subnets", "reservations")
_log: Final = logging.getLogger(__name__)


Ranges = dict[tuple[bytes, bytes], frozenset[ApplicationKey]]
"""Ranges of claims, and who waits for a release in them."""


class LastReconciled(NamedTuple):
    """What was so when an application was last found in order, or woken. None: it is gone."""

    application: Application | None
    pools: tuple[Pool, ...]
    subnets: tuple[int, ...] = ()


class ApplicationDispatcher:
    """One cluster's; to be run by whoever leads."""

    def __init__(self, place: PoolPlanner, client: Client) -> None:
        self._place = place
        self._view = place.view
        self._client = client
        self._begin()

    def _begin(self) -> None:
        self._seen: dict[ApplicationKey, LastReconciled] = {}
        self._needed: set[ApplicationKey] = set()
        self._waiting: dict[ApplicationKey, ReconcileReport] = {}
        self._woken: dict[ApplicationKey, int] = {}
        self._settled: dict[ApplicationKey, int] = {}
        self._freed: set[ApplicationKey] = set()
        self._news = asyncio.Event()
        self._waits_changed = asyncio.Event()

    async def run(self) -> None:
        """Wake whoever must look, until cancelled. Raises what no retry helps."""
        self._begin()
        parts = (
            self._sweep_on_news,
            self._follow_view,
            self._follow_source,
            self._follow_hints,
            self._follow_releases,
        )
        await until_all(*(until_done(part, WHAT, Backoff(RETRY_PAUSE_S)) for part in parts))

    # ------------------------------------------------------------------------ what is heard of

    async def _follow_view(self) -> None:
        snapshot = self._view.current
        self._news.set()
        while True:
            snapshot = await self._view.beyond(snapshot)
            self._news.set()

    async def _follow_source(self) -> None:
        while True:
            await self._place.source.changed()
            self._news.set()

    async def _follow_hints(self) -> None:
        """Needs and reports."""
        rooms = [
            self._place.keys.range_of("need"),
            self._place.keys.range_of("view", "application"),
        ]
        found = await self._place.store.read([Get(*room) for room in rooms])
        for answer in found.ranges:
            for kv in answer.kvs:
                self._hear(KeyChange(kv.key, kv.value, kv.mod_revision))
        async for batch in self._place.store.watch(rooms, after=found.revision):
            for change in batch.changes:
                self._hear(change)

    def _hear(self, change: KeyChange) -> None:
        faults, keys = self._view.faults, self._place.keys
        if change.value is None:
            faults.clear(key_text(keys, change.key))
        if change.key.startswith(keys.prefix("need")):
            if change.value is not None:
                need = faults.read(POOL_REQUESTS, keys, change.key, change.value)
                if need is not None:
                    self._needed.add(need.key)
                    self._news.set()
            return
        report = None
        if change.value is not None:
            report = faults.read(REPORTS, keys, change.key, change.value)
        if report is not None and any(one.again for one in report.problems):
            self._waiting[report.key] = report
            self._news.set()
        elif report is not None:
            self._waiting.pop(report.key, None)
            self._woken.pop(report.key, None)
            if not report.problems:
                self._settled[report.key] = report.configuration
                self._news.set()
        self._waits_changed.set()

    async def _follow_releases(self) -> None:
        """Watch the addresses of exactly those pools that somebody waits for."""
        ranges: Ranges = {}
        watch: asyncio.Task[None] | None = None
        try:
            while True:
                wanted = dict(self._waited_ranges())
                if wanted != ranges:
                    ranges = wanted
                    await _stop(watch)
                    watch = asyncio.create_task(
                        until_done(partial(self._watch, ranges), WHAT, Backoff(RETRY_PAUSE_S))
                    )
                await self._waits_changed.wait()
                self._waits_changed.clear()
        finally:
            await _stop(watch)

    async def _watch(self, ranges: Ranges) -> None:
        if not ranges:
            return
        after = min((report.position for report in self._waiting.values()), default=0)
        try:
            async for batch in self._place.store.watch(list(ranges), after=after):
                for change in batch.changes:
                    if change.value is None:
                        self._note_release(change.key, ranges)
        except Compacted:
            # What was released meanwhile nobody can tell: all of them look.
            self._freed.update(*ranges.values())
            self._news.set()
            raise

    def _note_release(self, claim: bytes, ranges: Ranges) -> None:
        for (start, end), keys in ranges.items():
            if start <= claim < end:
                self._freed |= keys
                self._news.set()

    def _waited_ranges(self) -> Iterator[tuple[tuple[bytes, bytes], frozenset[ApplicationKey]]]:
        pools = self._view.current.catalog
        names = {
            problem.pool: key
            for key, report in self._waiting.items()
            for problem in report.problems
            if problem.again and problem.pool in pools and not problem.subnet
        }
        for name, key in islice(sorted(names.items()), RANGES_MAX):
            addresses, of = pool_addresses(pools[name]), self._place.keys.ip
            if addresses:
                family = addresses.family
                start, end = of(family, addresses.first()), of(family, addresses.last()) + b"\0"
                yield (start, end), frozenset({key})

    # --------------------------------------------------------------------- who must look now

    async def _sweep_on_news(self) -> None:
        await self._place.source.listed()
        self._news.set()
        while True:
            await self._news.wait()
            self._news.clear()
            snapshot = self._view.current
            called = {*self._needed, *self._freed, *self._unblocked(snapshot)}
            self._needed.clear()
            self._freed.clear()
            try:
                await self._sweep(called, snapshot)
            except OrbweaverError:
                self._needed |= called
                raise
            await asyncio.sleep(GAP_S)

    async def _sweep(self, called: set[ApplicationKey], snapshot: ConfigurationSnapshot) -> None:
        """Wake those that were called, and those that have changed."""
        changed: dict[ApplicationKey, LastReconciled] = await waiting_for_store()(
            self._changed, snapshot
        )
        for some in _chunks(list(called | changed.keys())):
            await asyncio.gather(*(self._wake(key) for key in some))
        self._seen |= changed

    async def _wake(self, key: ApplicationKey) -> None:
        """One execution that takes no signal must not keep the others asleep."""
        try:
            required = RequiredExecution(AutoPools, workflow_id(key), (key,), WAKE)
            await waiting_for_store()(ensure_execution, self._client, required)
        except OF_ONE_EXECUTION as error:
            _log.error("the automatic pools of %s are not looked at: %s", key, error)

    async def _changed(
        self, snapshot: ConfigurationSnapshot
    ) -> dict[ApplicationKey, LastReconciled]:
        """Whose pools are not what they should be as far as anybody has looked."""
        changed: dict[ApplicationKey, LastReconciled] = {}
        self._forget_settled(snapshot)
        own = _by_application(snapshot)
        known = self._place.source.known()
        stamp = _stamp(snapshot, ("subnets",))
        for key, application in known.items():
            seen = LastReconciled(application, tuple(own.get(key, ())), stamp)
            if self._seen.get(key) != seen:
                if self._has_work(seen):
                    changed[key] = seen
                else:
                    self._seen[key] = seen
        for key, pools in own.items():
            seen = LastReconciled(None, tuple(pools))
            if key not in known and self._seen.get(key) != seen and await self._is_gone(key, pools):
                changed[key] = seen
        for key in self._seen.keys() - known.keys() - own.keys():
            del self._seen[key]
        return changed

    def _forget_settled(self, snapshot: ConfigurationSnapshot) -> None:
        """Compare anew once the view has caught up with who was set in order.

        What was so before may be so again: a pool that was made and deleted at once.
        """
        for key, changed_at in list(self._settled.items()):
            if changed_at <= snapshot.changed_at:
                del self._settled[key]
                self._seen.pop(key, None)

    def _has_work(self, seen: LastReconciled) -> bool:
        """Whether the activity would find anything: by its own plan, without other ones' pools."""
        assert seen.application is not None, "who is gone has no plan"
        settings = self._place.settings
        pools = {pool.name: pool for pool in seen.pools}
        configuration = self._place.configuration()._replace(pools=pools)
        return bool(
            plan_application(
                seen.application, configuration, {}, settings.default, enabled=settings.enabled
            )
        )

    async def _is_gone(self, key: ApplicationKey, pools: list[Pool]) -> bool:
        """On evidence, and something goes with it."""
        if not any(is_reclaimable(pool.labels) for pool in pools):
            return False
        found = await self._place.source.find(key)
        return isinstance(found, MissingOwner) and found.certain

    def _unblocked(self, snapshot: ConfigurationSnapshot) -> Iterator[ApplicationKey]:
        """Who waits for addresses of a subnet, now that something about subnets has changed."""
        newest = max(_stamp(snapshot, _TOPICS), default=0)
        for key, report in self._waiting.items():
            is_newer = newest > report.configuration and self._woken.get(key) != newest
            if is_newer and any(one.again and one.subnet for one in report.problems):
                self._woken[key] = newest
                yield key


def _by_application(snapshot: ConfigurationSnapshot) -> dict[ApplicationKey, list[Pool]]:
    found: dict[ApplicationKey, list[Pool]] = {}
    for pool in snapshot.catalog.values():
        key = application_of(pool.labels)
        if key is not None:
            found.setdefault(key, []).append(pool)
    return found


def _stamp(snapshot: ConfigurationSnapshot, topics: tuple[str, ...]) -> tuple[int, ...]:
    """Changes with every change of these topics."""
    return tuple(
        revision
        for key, revision in sorted(snapshot.guards.items())
        if key.rpartition(b"/")[0].rpartition(b"/")[2].decode() in topics
    )


def _chunks(keys: list[ApplicationKey]) -> Iterator[list[ApplicationKey]]:
    for start in range(0, len(keys), TOGETHER_MAX):
        yield keys[start : start + TOGETHER_MAX]


async def _stop(task: asyncio.Task[None] | None) -> None:
    if task is not None:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

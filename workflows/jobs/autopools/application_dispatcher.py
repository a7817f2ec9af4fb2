"""Start and signal the executions that reconcile automatic pools.

A sweep plans the pools of changed applications, and starts an execution if the plan has steps. A
waiting execution is signalled when the configuration changes, or when a pool that it waits for gets
a free address. A lost signal only delays the execution.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from functools import partial
from itertools import islice
from typing import Final, NamedTuple

from core.allocation.pool_requests import POOL_REQUEST_KEYS, REPORT_KEYS, ReconcileReport
from core.domain.autopools.application_plan import plan_application
from core.domain.autopools.applications import Application
from core.domain.autopools.pool_names import ApplicationKey, application_of, is_reclaimable
from core.domain.configuration.configuration_state import pool_addresses
from core.domain.fixed.fixed_address_owners import MissingOwner
from core.domain.model import Pool
from core.errors import Compacted, OrbweaverError
from core.eventstore.keys import key_text
from core.eventstore.kv import Get, KeyChange
from core.eventstore.retry_policies import retry_unavailable
from core.process.concurrency import until_all
from core.process.retry import Backoff, retry_until_done
from core.projections.configuration_view import ConfigurationSnapshot
from workflows.engine.client.client import Client
from workflows.engine.store.unusable_values import ERRORS_OF_ONE_EXECUTION
from workflows.jobs.autopools.application import WAKE_SIGNAL, AutoPools, workflow_id
from workflows.jobs.autopools.pool_activities import PoolPlanner
from workflows.jobs.required_executions import RequiredExecution, ensure_execution

SWEEP_GAP_S: Final = 0.05
"""The pause between sweeps, so that one sweep serves many changes."""

RETRY_PAUSE_S: Final = 0.5
WATCH_NAME: Final = "the watch for automatic pools"

RANGES_MAX: Final = 512
"""Maximum number of pools whose addresses are watched for a release."""

SIGNALS_AT_ONCE: Final = 100
_TOPICS: Final = ("pools", "subnets", "reservations", "quarantine")
"""What the free addresses of a subnet depend on."""

_log: Final = logging.getLogger(__name__)

Ranges = dict[tuple[bytes, bytes], frozenset[ApplicationKey]]
"""Range of claim keys -> the applications that wait for a release in the range."""


class ComparedApplication(NamedTuple):
    """An application (None if deleted) and its pools at the last comparison.

    ``subnets``: for each IP family the revision at which a subnet last changed.
    """

    application: Application | None
    pools: tuple[Pool, ...]
    subnets: tuple[int, ...] = ()


class ApplicationDispatcher:
    """The dispatcher of one cluster; the leader runs it."""

    def __init__(self, planner: PoolPlanner, client: Client) -> None:
        self._planner = planner
        self._view = planner.view
        self._client = client
        self._reset()

    def _reset(self) -> None:
        self._last_compared: dict[ApplicationKey, ComparedApplication] = {}
        self._requested_keys: set[ApplicationKey] = set()
        self._waiting_reports: dict[ApplicationKey, ReconcileReport] = {}
        self._signal_revisions: dict[ApplicationKey, int] = {}
        """Revisions of the configuration at the last signal to a waiting execution."""
        self._settled_revisions: dict[ApplicationKey, int] = {}
        """Revisions of the configuration after the last reconciliation."""
        self._released_keys: set[ApplicationKey] = set()
        """Applications that wait for a released address."""
        self._changed = asyncio.Event()
        self._waits_changed = asyncio.Event()

    async def run(self) -> None:
        """Start and signal executions until cancelled. Raises errors that are not retried."""
        self._reset()
        parts = (
            self._sweep_on_change,
            self._follow_view,
            self._follow_source,
            self._follow_hints,
            self._follow_releases,
        )
        await until_all(
            *(retry_until_done(part, WATCH_NAME, Backoff(RETRY_PAUSE_S)) for part in parts)
        )

    async def _follow_view(self) -> None:
        snapshot = self._view.current
        self._changed.set()
        while True:
            snapshot = await self._view.next_snapshot(snapshot)
            self._changed.set()

    async def _follow_source(self) -> None:
        while True:
            await self._planner.source.changed()
            self._changed.set()

    async def _follow_hints(self) -> None:
        ranges = [
            self._planner.keys.range_of("need"),  # pool requests
            self._planner.keys.range_of("view", "application"),  # reports of executions
        ]
        result = await self._planner.store.read([Get(*key_range) for key_range in ranges])
        kvs = [kv for stored in result.ranges for kv in stored.kvs]
        for key in self._waiting_keys().keys() - {kv.key for kv in kvs}:
            self._handle_hint(KeyChange(key, None, result.revision))  # deleted between two watches
        for kv in kvs:
            self._handle_hint(KeyChange(kv.key, kv.value, kv.mod_revision))
        async for batch in self._planner.store.watch(ranges, after=result.revision):
            for change in batch.changes:
                self._handle_hint(change)

    def _handle_hint(self, change: KeyChange) -> None:
        faults, keys = self._view.faults, self._planner.keys
        if change.value is None:
            faults.clear(key_text(keys, change.key))
        if change.key.startswith(keys.prefix("need")):
            if change.value is not None:
                request = POOL_REQUEST_KEYS.read(keys, change.key, change.value, faults)
                if request is not None:
                    self._requested_keys.add(request.key)
                    self._changed.set()
            return
        report = None
        if change.value is None:
            self._forget_wait(change.key)
        else:
            report = REPORT_KEYS.read(keys, change.key, change.value, faults)
        # ``again``: the problem may be solved later, so the execution waits.
        if report is not None and any(problem.again for problem in report.problems):
            self._waiting_reports[report.key] = report
            self._changed.set()
        elif report is not None:
            self._waiting_reports.pop(report.key, None)
            self._signal_revisions.pop(report.key, None)
            if not report.problems:
                self._settled_revisions[report.key] = report.configuration
                self._changed.set()
        self._waits_changed.set()

    def _forget_wait(self, report_key: bytes) -> None:
        """Forget the wait of a deleted report, and compare the application again.

        A waiting execution renews its report, so the execution has probably been terminated.
        """
        key = self._waiting_keys().get(report_key)
        if key is not None:
            del self._waiting_reports[key]
            self._signal_revisions.pop(key, None)
            self._last_compared.pop(key, None)
            self._changed.set()

    def _waiting_keys(self) -> dict[bytes, ApplicationKey]:
        """Key of a report -> the application that waits."""
        return {self._planner.keys.application_view(str(key)): key for key in self._waiting_reports}

    async def _follow_releases(self) -> None:
        ranges: Ranges = {}
        watch: asyncio.Task[None] | None = None
        try:
            while True:
                awaited = dict(self._awaited_ranges())
                if awaited != ranges:
                    ranges = awaited
                    await _stop(watch)
                    watch = asyncio.create_task(
                        retry_until_done(
                            partial(self._watch, ranges), WATCH_NAME, Backoff(RETRY_PAUSE_S)
                        )
                    )
                await self._waits_changed.wait()
                self._waits_changed.clear()
        finally:
            await _stop(watch)

    async def _watch(self, ranges: Ranges) -> None:
        if not ranges:
            return
        after = min((report.position for report in self._waiting_reports.values()), default=0)
        try:
            async for batch in self._planner.store.watch(list(ranges), after=after):
                for change in batch.changes:
                    if change.value is None:
                        self._note_release(change.key, ranges)
        except Compacted:
            # Releases were missed, so all waiting applications reconcile.
            self._released_keys.update(*ranges.values())
            self._changed.set()
            raise

    def _note_release(self, claim: bytes, ranges: Ranges) -> None:
        for (start, end), keys in ranges.items():
            if start <= claim < end:
                self._released_keys |= keys
                self._changed.set()

    def _awaited_ranges(self) -> Iterator[tuple[tuple[bytes, bytes], frozenset[ApplicationKey]]]:
        pools = self._view.current.catalog
        waiting = {
            problem.pool: key
            for key, report in self._waiting_reports.items()
            for problem in report.problems
            if problem.again and problem.pool in pools and not problem.subnet
        }
        for pool, key in islice(sorted(waiting.items()), RANGES_MAX):
            addresses, key_of = pool_addresses(pools[pool]), self._planner.keys.ip
            if addresses:
                family = addresses.family
                start = key_of(family, addresses.first())
                yield (start, key_of(family, addresses.last()) + b"\0"), frozenset({key})

    async def _sweep_on_change(self) -> None:
        await self._planner.source.listed()
        self._changed.set()
        while True:
            await self._changed.wait()
            self._changed.clear()
            snapshot = self._view.current
            pending = {*self._requested_keys, *self._released_keys, *self._unblocked(snapshot)}
            self._requested_keys.clear()
            self._released_keys.clear()
            try:
                await self._sweep(pending, snapshot)
            except OrbweaverError:
                self._requested_keys |= pending
                raise
            await asyncio.sleep(SWEEP_GAP_S)

    async def _sweep(self, pending: set[ApplicationKey], snapshot: ConfigurationSnapshot) -> None:
        """Signal pending and changed applications, then note the changes."""
        changed: dict[ApplicationKey, ComparedApplication] = await retry_unavailable()(
            self._find_changed, snapshot
        )
        for chunk in _chunks(list(pending | changed.keys())):
            await asyncio.gather(*(self._signal(key) for key in chunk))
        self._last_compared |= changed

    async def _signal(self, key: ApplicationKey) -> None:
        """Signal one execution. Log a failure that concerns only this execution."""
        try:
            required = RequiredExecution(AutoPools, workflow_id(key), (key,), WAKE_SIGNAL)
            await retry_unavailable()(ensure_execution, self._client, required)
        except ERRORS_OF_ONE_EXECUTION as error:
            _log.error("cannot signal the execution for the automatic pools of %s: %s", key, error)

    async def _find_changed(
        self, snapshot: ConfigurationSnapshot
    ) -> dict[ApplicationKey, ComparedApplication]:
        """Return changed applications whose plan has steps, and note all other changes."""
        changed: dict[ApplicationKey, ComparedApplication] = {}
        self._forget_settled(snapshot)
        pools_of = _by_application(snapshot)
        applications = self._planner.source.known()
        stamp = _stamp(snapshot, ("subnets",))
        for key, application in applications.items():
            current = ComparedApplication(application, tuple(pools_of.get(key, ())), stamp)
            if self._last_compared.get(key) != current:
                if self._has_steps(current):
                    changed[key] = current
                else:
                    self._last_compared[key] = current
        for key, pools in pools_of.items():
            current = ComparedApplication(application=None, pools=tuple(pools))
            if key in applications or self._last_compared.get(key) == current:
                continue
            if await self._is_gone(key, pools):
                changed[key] = current
        for key in self._last_compared.keys() - applications.keys() - pools_of.keys():
            del self._last_compared[key]
        return changed

    def _forget_settled(self, snapshot: ConfigurationSnapshot) -> None:
        """Forget a comparison once the view includes the last reconciliation.

        If a pool was created and deleted after the comparison, the pools look unchanged.
        """
        for key, changed_at in list(self._settled_revisions.items()):
            if changed_at <= snapshot.newest_guard_revision:
                del self._settled_revisions[key]
                self._last_compared.pop(key, None)

    def _has_steps(self, current: ComparedApplication) -> bool:
        assert current.application is not None, "the application was deleted"
        settings = self._planner.settings
        pools = {pool.name: pool for pool in current.pools}
        configuration = self._planner.configuration()._replace(pools=pools)
        return bool(
            plan_application(
                current.application,
                configuration,
                claimed={},  # claims change the steps, but never whether the plan has steps
                default=settings.default_number,
                enabled=settings.enabled,
            )
        )

    async def _is_gone(self, key: ApplicationKey, pools: list[Pool]) -> bool:
        """Whether the application was certainly deleted and has a pool to delete."""
        if not any(is_reclaimable(pool.labels) for pool in pools):
            return False
        application = await self._planner.source.find(key)
        return isinstance(application, MissingOwner) and application.certain

    def _unblocked(self, snapshot: ConfigurationSnapshot) -> Iterator[ApplicationKey]:
        """Applications that wait for a subnet, if its free addresses may have changed."""
        newest = max(_stamp(snapshot, _TOPICS), default=0)
        for key, report in self._waiting_reports.items():
            is_newer = newest > report.configuration and self._signal_revisions.get(key) != newest
            if is_newer and any(problem.again and problem.subnet for problem in report.problems):
                self._signal_revisions[key] = newest
                yield key


def _by_application(snapshot: ConfigurationSnapshot) -> dict[ApplicationKey, list[Pool]]:
    pools_of: dict[ApplicationKey, list[Pool]] = {}
    for pool in snapshot.catalog.values():
        key = application_of(pool.labels)
        if key is not None:
            pools_of.setdefault(key, []).append(pool)
    return pools_of


def _stamp(snapshot: ConfigurationSnapshot, topics: tuple[str, ...]) -> tuple[int, ...]:
    """The revisions of the last changes in these topics."""
    return tuple(
        revision
        for key, revision in sorted(snapshot.guards.items())
        if key.rpartition(b"/")[0].rpartition(b"/")[2].decode() in topics
    )


def _chunks(keys: list[ApplicationKey]) -> Iterator[list[ApplicationKey]]:
    for start in range(0, len(keys), SIGNALS_AT_ONCE):
        yield keys[start : start + SIGNALS_AT_ONCE]


async def _stop(task: asyncio.Task[None] | None) -> None:
    if task is not None:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

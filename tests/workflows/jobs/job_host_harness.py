"""Controllers' jobs on a store: hosts, one of which leads; any host may die."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Self

from core.domain.reclaim.settings import ReclaimSettings
from core.errors import CallRejected, DeadlineExceeded
from core.eventstore.kv import Get, KeyValueStore
from core.projections.projector import Projector
from tests.support.counters import Counters
from tests.support.engine_harness import eventually, within
from tests.support.node_harness import NodeHarness, check_everything
from tests.workflows.faults.killing import KillingStore
from workflows.engine.client.client import Client
from workflows.jobs.job_host import NOTICES, JobHost, JobSettings
from workflows.jobs.required_executions import ExecutionKeeper

ANSWER_S_MAX = 0.5
"""Seconds that a query waits for a controller, which may be dead, before it is repeated."""

SWITCHED_OFF = JobSettings(ReclaimSettings(enabled=False))


class JobHostHarness:
    """A cluster. As a context manager it opens its node and a leader."""

    def __init__(self, store: KeyValueStore, make: Callable[..., JobHost] = JobHost) -> None:
        self.store = store
        self.node = NodeHarness(store)
        self.client = Client(store, self.node.keys)
        self._make = make
        self._works: dict[str, tuple[JobHost, asyncio.Task[None]]] = {}
        self._stack = AsyncExitStack()
        # Keeps tasks that wait for a dead store from being garbage collected.
        self._dead: list[object] = []

    async def __aenter__(self) -> Self:
        await self._stack.enter_async_context(self.node)
        await self._stack.enter_async_context(self.client)
        projector = Projector(self.store, self.node.keys)
        noticing = ExecutionKeeper(
            self.store, self.node.keys, projector, NOTICES, "leader", period_s=0.01
        )
        for running in (projector.run(), noticing.run()):
            self._begin(asyncio.ensure_future(running))
        return self

    async def __aexit__(self, *_: object) -> None:
        works = [work for _, work in self._works.values()]
        for work in works:
            work.cancel()
        if works:
            await asyncio.wait(works)
        await self._stack.aclose()

    async def host(self, name: str, store: KeyValueStore | None = None) -> JobHost:
        """Start the jobs of another controller."""
        host = self._make(store or self.store, self.node.keys, name, SWITCHED_OFF)
        self._works[name] = host, asyncio.ensure_future(host.run())
        return host

    async def bury_if_dead(
        self, name: str, killing: KillingStore, done: Callable[[], Awaitable[bool]]
    ) -> None:
        """Wait until the controller has died or finished, and remove it.

        As after a crash it releases nothing, and its lease expires.
        """

        async def is_over() -> bool:
            return killing.died.is_set() or await done()

        await self.until(is_over)
        killing.died.set()
        Counters.kills += 1
        host, work = self._works.pop(name)
        self._dead.append((host, killing))
        term = host.worker.term
        await host.worker.abandon()
        while not work.done():  # it may wait for the dead store again while it ends
            work.cancel()
            await asyncio.sleep(0.001)
        if term is not None:
            await within(self.store.revoke_lease(term.session.lease))

    async def until_open(self, workflow_id: str) -> None:
        """Wait until an execution was started."""
        key = self.client.keys.open(workflow_id)

        async def is_there() -> bool:
            return bool((await self.store.read([Get(key)])).ranges[0].kvs)

        await self.until(is_there)

    async def until_found(self, workflow_id: str, **wanted: object) -> None:
        """Wait until the query ``status`` of an execution returns this value."""
        await self.until(lambda: self.has(workflow_id, **wanted))

    async def has(self, workflow_id: str, **wanted: object) -> bool:
        """Whether the query returns this value now; False without a worker."""
        try:
            found = await self.client.query(workflow_id, "status", timeout_s=ANSWER_S_MAX)
        except (CallRejected, DeadlineExceeded):
            return False
        return isinstance(found, dict) and all(
            found.get(name) == value for name, value in wanted.items()
        )

    async def until(self, look: Callable[[], Awaitable[bool]]) -> None:
        """Wait until the condition holds."""
        await eventually(look)

    async def check(self) -> None:
        """Check all invariants over the whole log."""
        await check_everything(self.node)

    def _begin(self, task: asyncio.Task[None]) -> None:
        async def end() -> None:
            task.cancel()
            await asyncio.wait([task])

        self._stack.push_async_callback(end)

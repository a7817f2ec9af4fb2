"""The jobs of controllers on one store; a test may kill any controller."""

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
from workflows.jobs.job_host import REQUIRED_EXECUTIONS, JobHost, JobSettings
from workflows.jobs.required_executions import ExecutionKeeper

ANSWER_S_MAX = 0.5
"""Seconds that a query waits; a dead controller does not answer."""

RECLAIM_OFF = JobSettings(ReclaimSettings(enabled=False))


class JobHostHarness:
    """A node, controllers, and the keeper that starts the required executions."""

    def __init__(self, store: KeyValueStore, make_host: Callable[..., JobHost] = JobHost) -> None:
        self.store = store
        self.node = NodeHarness(store)
        self.client = Client(store, self.node.keys)
        self._make_host = make_host
        self._tasks: dict[str, tuple[JobHost, asyncio.Task[None]]] = {}
        self._stack = AsyncExitStack()
        # References keep tasks that wait for a dead store from being garbage collected.
        self._dead: list[object] = []

    async def __aenter__(self) -> Self:
        await self._stack.enter_async_context(self.node)
        await self._stack.enter_async_context(self.client)
        projector = Projector(self.store, self.node.keys)
        keeper = ExecutionKeeper(
            self.store, self.node.keys, projector, REQUIRED_EXECUTIONS, "leader", period_s=0.01
        )
        for work in (projector.run(), keeper.run()):
            self._cancel_at_end(asyncio.ensure_future(work))
        return self

    async def __aexit__(self, *_: object) -> None:
        tasks = [task for _, task in self._tasks.values()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        await self._stack.aclose()

    async def start_controller(self, name: str, store: KeyValueStore | None = None) -> JobHost:
        host = self._make_host(store or self.store, self.node.keys, name, RECLAIM_OFF)
        self._tasks[name] = host, asyncio.ensure_future(host.run())
        return host

    async def remove_when_dead(
        self, name: str, killing: KillingStore, done: Callable[[], Awaitable[bool]]
    ) -> None:
        """Wait until the controller has died or ``done()`` is true; then crash it.

        The controller releases no shard, and its lease expires.
        """

        async def is_over() -> bool:
            return killing.died.is_set() or await done()

        await self.until(is_over)
        killing.died.set()
        Counters.kills += 1
        host, task = self._tasks.pop(name)
        self._dead.append((host, killing))
        term = host.worker.term
        await host.worker.abandon()
        while not task.done():  # a cancelled task may wait for the dead store again
            task.cancel()
            await asyncio.sleep(0.001)
        if term is not None:
            await within(self.store.revoke_lease(term.session.lease))

    async def until_open(self, workflow_id: str) -> None:
        key = self.client.keys.open(workflow_id)

        async def is_open() -> bool:
            return bool((await self.store.read([Get(key)])).ranges[0].kvs)

        await self.until(is_open)

    async def until_status(self, workflow_id: str, **expected: object) -> None:
        await self.until(lambda: self.has_status(workflow_id, **expected))

    async def has_status(self, workflow_id: str, **expected: object) -> bool:
        """Whether the status has these values. False if no worker answers."""
        try:
            status = await self.client.query(workflow_id, "status", timeout_s=ANSWER_S_MAX)
        except (CallRejected, DeadlineExceeded):
            return False
        return isinstance(status, dict) and all(
            status.get(name) == value for name, value in expected.items()
        )

    async def until(self, condition: Callable[[], Awaitable[bool]]) -> None:
        await eventually(condition)

    async def check(self) -> None:
        await check_everything(self.node)

    def _cancel_at_end(self, task: asyncio.Task[None]) -> None:
        async def end() -> None:
            task.cancel()
            await asyncio.wait([task])

        self._stack.push_async_callback(end)

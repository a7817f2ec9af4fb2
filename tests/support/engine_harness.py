"""The harness of the workflow engine's tests: a store, activities, workers and a client."""

from __future__ import annotations

import asyncio
import itertools
from collections import defaultdict
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from core.eventstore.keys import Keys
from core.eventstore.kv import Get, KeyValue, KeyValueStore
from tests.support.engine_samples import SampleActivities, sample_registry
from workflows.api.definitions import Registry
from workflows.engine.client.client import Client
from workflows.engine.client.handles import WorkflowHandle
from workflows.engine.client.visibility import Visibility
from workflows.engine.clock import Clock
from workflows.engine.run.history_checker import violations
from workflows.engine.store.history_reader import history_of, read_history
from workflows.engine.store.records import HEAD_CODEC, RunHead
from workflows.engine.worker.worker import Worker, WorkerOptions
from workflows.model.events import HistoryEvent
from workflows.model.policies import ExecutionStatus

DEADLINE_S = 60.0

_numbers = itertools.count()
T = TypeVar("T")


class EngineHarness:
    """The workers and the client of one test, on one store."""

    def __init__(self, store: KeyValueStore) -> None:
        self.store = store
        self.keys = Keys(f"test-{next(_numbers)}")
        self.activities = SampleActivities()
        self.registry: Registry = sample_registry(self.activities)
        self.client = Client(store, self.keys)
        self.visibility = Visibility(store, self.client.keys)
        self.workers: list[Worker] = []

    async def start_worker(
        self,
        name: str = "",
        *,
        registry: Registry | None = None,
        options: WorkerOptions = WorkerOptions(),
        store: KeyValueStore | None = None,
        clock: Clock | None = None,
    ) -> Worker:
        """Start a worker; return when it is ready."""
        worker = Worker(
            store or self.store,
            self.keys,
            registry or self.registry,
            name=name or f"worker-{len(self.workers)}",
            options=options,
            clock=clock,
        )
        self.workers.append(worker)
        worker.start()
        async with asyncio.timeout(DEADLINE_S):
            await worker.ready()
        return worker

    async def run_workflow(self, workflow: type[Any], *args: object, id: str = "one") -> Any:  # noqa: A002
        handle = await self.client.start(workflow, *args, id=id)
        return await within(handle.result())

    async def history(self, handle: WorkflowHandle) -> list[HistoryEvent]:
        return await read_history(self.store, self.client.keys, handle.workflow_id, handle.run_id)

    async def event_types(self, handle: WorkflowHandle) -> list[str]:
        return [event.event_type for event in await self.history(handle)]

    async def head(self, workflow_id: str, run_id: str = "") -> RunHead:
        """Return the head of a run; without ``run_id``, of the newest run of the workflow."""
        return (await self.visibility.describe(workflow_id, run_id)).head

    async def until_status(self, workflow_id: str, status: ExecutionStatus) -> RunHead:
        """Wait until the newest run of the id has this status."""

        async def reached() -> RunHead | None:
            head = await self.head(workflow_id)
            return head if head.status is status else None

        return await eventually(reached)

    async def find_violations(self) -> tuple[int, list[str]]:
        """Return the number of executions, and the violations."""
        keys = self.client.keys
        ranges = [Get(*keys.range_of(kind)) for kind in ("open", "closed", "event")]
        opened, closed, segments = (result.kvs for result in (await self.store.read(ranges)).ranges)
        by_run: dict[str, list[KeyValue]] = defaultdict(list)
        for kv in segments:
            by_run[kv.key.split(b"/")[-2].decode()].append(kv)
        heads = [HEAD_CODEC.decode(kv.value) for kv in (*opened, *closed)]
        faults = []
        for head in heads:
            events = history_of(tuple(by_run[head.run_id]))
            faults += [f"{head.workflow_id}: {fault}" for fault in violations(events, head)]
        return len(heads), faults

    async def kill_worker(self, worker: Worker) -> None:
        """Stop a worker as a crash does, and expire its lease immediately."""
        term = worker.term
        await worker.abandon()
        self.workers.remove(worker)
        if term is not None:
            await within(self.store.revoke_lease(term.session.lease))

    async def close(self) -> None:
        self.activities.gate.set()  # ends the activities that wait for the gate
        for worker in self.workers:
            await worker.close()
        await self.client.close()


async def within(awaitable: Awaitable[T]) -> T:
    """Await the result. Raises TimeoutError after ``DEADLINE_S``."""
    async with asyncio.timeout(DEADLINE_S):
        return await awaitable


async def eventually(call: Callable[[], Awaitable[T | None]]) -> T:
    """Repeat a call until its result is true; return the result."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            result = await call()
            if result:
                return result
            await asyncio.sleep(0.01)

"""Run workflows and activities in tests: the engine in memory, with a clock that skips time.

    async with WorkflowEnvironment(Registry([Release], [release])) as env:
        assert await env.execute(Release, "10.6.0.17") == 3

The clock jumps to the next timer when the worker is idle. Activities run for real, with retries,
timeouts and heartbeats. An activity simulates a long run by ``await env.spend(seconds)``. While it
waits for anything else, the clock does not advance. With ``replays=True`` every workflow task first
replays the history, to find non-determinism.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Self, TypeVar

from core.domain.validation.common_rules import counted
from core.eventstore.keys import Keys
from core.eventstore.memory_store import MemoryStore
from workflows.api.definitions import Registry
from workflows.api.options import StartOptions
from workflows.engine.client.client import Client
from workflows.engine.client.visibility import Visibility
from workflows.engine.store.history_reader import read_heads
from workflows.engine.store.records import RunHead
from workflows.engine.worker.activities import ACTIVITY_SLOTS
from workflows.engine.worker.worker import Worker, WorkerOptions
from workflows.model.errors import WorkflowError
from workflows.model.limits import STICKY_CACHE_RUNS_MAX
from workflows.testing.handle import TimeSkippingHandle
from workflows.testing.skipping_clock import SkippingClock

START_MS = 1_700_000_000_000
SESSION_TTL_S = 3_600
"""Long, for tests in a debugger."""

REPLY_PASSES = 16
"""Passes of the event loop until a stored reply reaches the caller."""

T = TypeVar("T")


class StuckError(WorkflowError):
    """No timer is pending and nothing runs. The message lists the open executions."""


class WorkflowEnvironment:
    """One worker, one client and one clock. ``slots``: limit of concurrent async activities."""

    def __init__(
        self,
        registry: Registry,
        *,
        replays: bool = False,
        start_ms: int = START_MS,
        slots: int = ACTIVITY_SLOTS,
    ) -> None:
        self._clock = SkippingClock(start_ms)
        self._store = MemoryStore()
        keys = Keys("test")
        options = WorkerOptions(
            ttl_s=SESSION_TTL_S,
            slots=slots,
            cached_runs=0 if replays else STICKY_CACHE_RUNS_MAX,
        )
        self._worker = Worker(
            self._store, keys, registry, name="worker", options=options, clock=self._clock
        )
        self.registry = registry
        self.client = Client(self._store, keys, clock=self._clock)
        self.visibility = Visibility(self._store, self.client.keys)

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def open(self) -> None:
        """Start the worker."""
        self._worker.start()
        await self._worker.ready()

    async def close(self) -> None:
        """Stop the worker and its tasks."""
        await self._worker.abandon()
        await self.client.close()

    @property
    def now_ms(self) -> int:
        """Milliseconds since 1970."""
        return self._clock.now_ms()

    async def spend(self, seconds: float) -> None:
        """For activities: wait until the clock has skipped ``seconds``. ``math.inf``: forever."""
        await self._clock.wait(asyncio.Event(), seconds)

    async def execute(
        self, workflow: str | type[Any], *args: object, workflow_id: str = "workflow"
    ) -> Any:  # noqa: ANN401 - whatever the workflow returns
        """Start a workflow and skip time until it ends. Raises as ``TimeSkippingHandle.result``."""
        return await (await self.start(workflow, *args, workflow_id=workflow_id)).result()

    async def start(
        self,
        workflow: str | type[Any],
        *args: object,
        workflow_id: str = "workflow",
        options: StartOptions = StartOptions(),
    ) -> TimeSkippingHandle:
        """Start a workflow. Raises AlreadyStarted."""
        await self.client.start(workflow, *args, id=workflow_id, options=options)
        return TimeSkippingHandle(self, workflow_id)

    def handle(self, workflow_id: str) -> TimeSkippingHandle:
        """The handle of an execution that a test or a parent has started."""
        return TimeSkippingHandle(self, workflow_id)

    async def is_open(self, workflow_id: str) -> bool:
        """Whether the id has an open run."""
        opened, _ = await read_heads(self._store, self.client.keys, workflow_id)
        return opened is not None

    async def runs(self, workflow_id: str) -> list[RunHead]:
        """The heads of all runs of an id, the oldest first."""
        opened, closed = await read_heads(self._store, self.client.keys, workflow_id)
        return [*closed, *([opened] if opened is not None else [])]

    async def settle(self) -> None:
        """Return when nothing more happens at the current time."""
        while True:
            # Watches must first return all changes, and woken tasks must continue.
            if not self._store.watches_are_current or self._clock.is_waking:
                await asyncio.sleep(0)
                continue
            running = [task for task in self._worker.tasks() if not self._clock.is_asleep(task)]
            if not running:
                return
            await self._clock.until_idle(running)

    async def advance(self, seconds: float) -> None:
        """Advance the clock by ``seconds``, and run all that is due meanwhile."""
        until_ms = self.now_ms + round(seconds * 1000)
        await self.settle()
        while (due_ms := self._clock.next_due_ms()) is not None and due_ms <= until_ms:
            self._clock.move_to(due_ms)
            await self.settle()
        self._clock.move_to(until_ms)

    async def run_until(self, condition: Callable[[], bool]) -> None:
        """Skip time until ``condition()`` holds. Raises StuckError if no timer is left."""
        await self.settle()
        while not condition():
            due_ms = self._clock.next_due_ms()
            if due_ms is None:
                raise await self._stuck_error("the condition cannot become true")
            self._clock.move_to(due_ms)
            await self.settle()

    async def call(self, request: Coroutine[Any, Any, T]) -> T:
        """Skip time until a request of the client is answered. Raises StuckError."""
        answer = asyncio.ensure_future(request)

        async def is_answered() -> bool:
            await self.settle()
            for _ in range(REPLY_PASSES):
                if answer.done():
                    break
                await asyncio.sleep(0)
            return answer.done()

        try:
            while not await is_answered():
                due_ms = self._clock.next_due_ms()
                if due_ms is None:
                    raise await self._stuck_error("the request cannot be answered")
                self._clock.move_to(due_ms)
            return answer.result()
        finally:
            answer.cancel()

    async def _stuck_error(self, what: str) -> StuckError:
        executions = await self._open_executions()
        return StuckError(f"{what}: no timer is pending and nothing runs; {executions}")

    async def _open_executions(self) -> str:
        descriptions = []
        async for head in self.visibility.heads():
            if head.is_open:
                pending = (
                    f"{counted(len(head.activities), 'activity', 'activities')},"
                    f" {counted(len(head.timers), 'timer')} and"
                    f" {counted(len(head.children), 'child', 'children')} pending"
                )
                descriptions.append(
                    f"{head.workflow_id} is {head.status.value}: {head.reason or pending}"
                )
        return "; ".join(descriptions) or "no execution is open"

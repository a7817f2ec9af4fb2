"""Pauses and retries of executions with several activities."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from core.eventstore.kv import Get, Guard, Put, TxnResult, Write
from tests.support.engine_harness import EngineHarness, eventually, within
from tests.support.engine_samples import QUICK, THRICE
from tests.support.faulty_store import FaultyStore
from workflows.api import workflow
from workflows.model.policies import ExecutionStatus

SIGNALED = "WorkflowExecutionSignaled"


@workflow.defn()
class Pair:
    """Runs ``work``, which pauses the execution after three failures, and ``wait`` at once."""

    @workflow.run
    async def run(self) -> list[str]:
        work: workflow.Future[str] = workflow.start_activity("work", "a", options=THRICE)
        wait: workflow.Future[str] = workflow.start_activity("wait", options=QUICK)
        return [await work, await wait]


class SlowStore(FaultyStore):
    """A store in which ``wait`` ends while the first event of a type is written.

    If it is a signal, a retry is requested meanwhile, too.
    """

    def __init__(self, engine: EngineHarness, event_type: str) -> None:
        super().__init__(engine.store)
        self._engine = engine
        self._event_type = event_type.encode()
        self._is_written = False

    async def commit(
        self, guards: Sequence[Guard], writes: Sequence[Write], otherwise: Sequence[Get] = ()
    ) -> TxnResult:
        is_event = any(isinstance(put, Put) and self._event_type in put.value for put in writes)
        if is_event and not self._is_written:
            self._is_written = True
            if self._event_type == SIGNALED.encode():
                await self._engine.client.retry("one")
            self._engine.activities.gate.set()
            await eventually(self._is_idle)
            await asyncio.sleep(0.05)  # the watch delivers the retry
        return await super().commit(guards, writes, otherwise)

    async def _is_idle(self) -> bool:
        term = self._engine.workers[0].term
        return term is not None and not term.parts.activities.activity_tasks


@pytest.mark.parametrize("event_type", ["WorkflowExecutionUnpaused", SIGNALED])
async def test_a_retry_does_not_repeat_an_activity_that_ends_during_or_before_it(
    engine: EngineHarness, event_type: str
) -> None:
    engine.activities.failures_left = 3
    engine.registry.include(Pair)
    await engine.start_worker(store=SlowStore(engine, event_type))
    handle = await engine.client.start(Pair, id="one")
    await engine.until_status("one", ExecutionStatus.PAUSED)
    await within(engine.activities.begun.wait())
    if event_type == SIGNALED:
        await handle.signal("tell")
    else:
        await engine.client.retry("one")

    assert await within(handle.result()) == ["A", "waited"]
    assert engine.activities.calls.count("wait") == 1

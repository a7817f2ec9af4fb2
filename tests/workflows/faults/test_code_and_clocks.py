"""Executions continue when their code changes or the wall clock jumps.

The workflow ``Steady`` runs an activity and a timer for each word.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from core.errors import CallRejected
from core.eventstore.kv import Get, Guard, KeyValueStore, TxnResult, Write
from tests.support.engine_harness import EngineHarness, eventually, within
from tests.support.engine_samples import Basket, SampleActivities, Steady
from tests.support.faulty_store import FaultyStore
from tests.workflows.engine.clocks import JumpingClock
from workflows.api import workflow
from workflows.api.definitions import Registry
from workflows.api.options import StartOptions
from workflows.model.policies import ExecutionStatus

QUICK = workflow.ActivityOptions(start_to_close_s=20)


@workflow.defn(name="Changing")
class Before:
    @workflow.run
    async def run(self) -> str:
        await workflow.sleep(0.3)
        return str(await workflow.execute_activity("work", "old", options=QUICK))


@workflow.defn(name="Changing")
class Patched:
    @workflow.run
    async def run(self) -> str:
        if workflow.patched("work-first"):
            await workflow.execute_activity("work", "new", options=QUICK)
        await workflow.sleep(0.3)
        return str(await workflow.execute_activity("work", "old", options=QUICK))


@workflow.defn(name="Changing")
class Unpatched:
    @workflow.run
    async def run(self) -> str:
        await workflow.execute_activity("work", "new", options=QUICK)
        await workflow.sleep(0.3)
        return str(await workflow.execute_activity("work", "old", options=QUICK))


def _registry(activities: SampleActivities, cls: type[Any]) -> Registry:
    return Registry([cls], [activities.work])


async def _until_asleep(engine: EngineHarness) -> None:
    async def has_timers() -> bool:
        return bool((await engine.head("one")).timers)

    await eventually(has_timers)


async def test_patched_code_continues_a_sleeping_execution(engine: EngineHarness) -> None:
    old = await engine.start_worker(registry=_registry(engine.activities, Before))
    handle = await engine.client.start("Changing", id="one")
    await _until_asleep(engine)
    await old.close()
    await engine.start_worker(registry=_registry(engine.activities, Patched))

    assert await within(handle.result()) == "OLD"
    assert engine.activities.calls == ["old"]
    assert await within((await engine.client.start("Changing", id="two")).result()) == "OLD"
    assert engine.activities.calls == ["old", "new", "old"]


async def test_incompatible_code_pauses_a_sleeping_execution_until_the_code_is_corrected(
    engine: EngineHarness,
) -> None:
    old = await engine.start_worker(registry=_registry(engine.activities, Before))
    handle = await engine.client.start("Changing", id="one")
    await _until_asleep(engine)
    await old.close()
    wrong = await engine.start_worker(registry=_registry(engine.activities, Unpatched))
    head = await engine.until_status("one", ExecutionStatus.PAUSED)
    await wrong.close()
    await engine.start_worker(registry=_registry(engine.activities, Patched))
    await engine.client.retry("one", "the change is patched")

    assert "NonDeterminismError" in head.reason
    assert "StartTimer" in head.reason
    assert await within(handle.result()) == "OLD"


async def test_a_paused_execution_continues_with_corrected_code_after_a_failed_query(
    engine: EngineHarness,
) -> None:
    old = await engine.start_worker(registry=_registry(engine.activities, Before))
    handle = await engine.client.start("Changing", id="one")
    await _until_asleep(engine)
    await old.close()
    registry = _registry(engine.activities, Unpatched)
    await engine.start_worker(registry=registry)
    await engine.until_status("one", ExecutionStatus.PAUSED)
    with pytest.raises(CallRejected, match="the history expects"):
        await handle.query("anything")
    registry.workflows.update(_registry(engine.activities, Patched).workflows)
    await engine.client.retry("one", "the change is patched")

    assert await within(handle.result()) == "OLD"


async def test_event_times_do_not_decrease_when_the_clock_is_set_back(
    engine: EngineHarness,
) -> None:
    clock = JumpingClock()
    await engine.start_worker(clock=clock)
    handle = await engine.client.start(Steady, ["a", "b", "c"], 0.02, id="one")
    for offset_ms in (-3_600_000, 7_200_000, -1):
        clock.offset_ms = offset_ms
        calls = len(engine.activities.calls)

        async def continues(calls: int = calls) -> bool:
            return len(engine.activities.calls) > calls or await _is_closed(engine)

        await eventually(continues)

    assert await within(handle.result()) == ["A", "B", "C"]
    times = [event.event_time_ms for event in await engine.history(handle)]
    assert times == sorted(times)


@pytest.mark.parametrize("offset_ms", [-3_600_000, 3_600_000])
async def test_setting_the_clock_changes_no_run_timeout(
    engine: EngineHarness, offset_ms: int
) -> None:
    clock = JumpingClock()
    await engine.start_worker(clock=clock)
    # Both timeouts are shorter than the jump of an hour.
    await engine.client.start(Basket, id="long", options=StartOptions(run_timeout_s=3_000.0))
    await engine.client.start(Basket, id="short", options=StartOptions(run_timeout_s=0.2))
    await _until_begun(engine, "long")
    await _until_begun(engine, "short")
    clock.offset_ms = offset_ms
    await engine.client.signal("long", "put", "thing")

    assert (
        await engine.until_status("short", ExecutionStatus.TIMED_OUT)
    ).status is ExecutionStatus.TIMED_OUT
    assert await within(engine.client.query("long", "count")) == 1


async def _until_begun(engine: EngineHarness, workflow_id: str) -> None:
    async def has_begun() -> bool:
        return (await engine.head(workflow_id)).next_event_id > 1

    await eventually(has_begun)


async def _is_closed(engine: EngineHarness) -> bool:
    return not (await engine.head("one")).status.open


class JumpingStore(FaultyStore):
    """A store in which each transaction moves the wall clock ahead by more than an hour."""

    def __init__(self, store: KeyValueStore, clock: JumpingClock) -> None:
        super().__init__(store)
        self._clock = clock

    async def commit(
        self, guards: Sequence[Guard], writes: Sequence[Write], otherwise: Sequence[Get] = ()
    ) -> TxnResult:
        result = await super().commit(guards, writes, otherwise)
        self._clock.offset_ms += 4_000_000
        return result


async def test_a_clock_that_jumps_ahead_fires_no_timer_early(
    engine: EngineHarness,
) -> None:
    clock = JumpingClock()
    await engine.start_worker(clock=clock, store=JumpingStore(engine.store, clock))
    await engine.client.start(Steady, ["a"], 3_000.0, id="one")
    await _until_asleep(engine)
    await within((await engine.client.start(Steady, ["b"], id="two")).result())

    head = await engine.head("one")
    assert head.timers
    assert head.status is ExecutionStatus.RUNNING

"""Plain activities (not ``async``) run in threads, so the worker keeps renewing its lease.

The workflow ``Waiting`` runs the named activity, and returns the result or the type of the error.
"""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from tests.support.engine_harness import EngineHarness, eventually, within
from tests.support.engine_samples import ActivityLimits, Chain, Waiting, sample_registry
from workflows.api import activity, workflow
from workflows.engine.worker.worker import WorkerOptions
from workflows.model.policies import ExecutionStatus

LEASE_S = 4
"""A busy machine renews the lease in this time; a blocked event loop does not."""

PAUSE_S = 0.1
"""``Chain`` sleeps this long, so that its executions do not keep a core busy."""


class Blocking:
    """Plain activities that run until a test sets ``gate``."""

    def __init__(self) -> None:
        self.calls: list[int] = []
        self.heartbeat_errors: list[str] = []
        self.begun = threading.Event()
        self.gate = threading.Event()

    @activity.defn()
    def block(self) -> str:
        self.calls.append(threading.get_ident())
        self.begun.set()
        self.gate.wait(60)
        return f"attempt {activity.info().attempt}"

    @activity.defn()
    def beat(self) -> str:
        self.begun.set()
        try:
            while not self.gate.wait(0.005):
                activity.heartbeat("alive")
        except workflow.CancelledError as error:
            self.heartbeat_errors.append(str(error))
            raise
        return "done"


async def test_the_worker_keeps_its_lease_while_a_plain_activity_blocks(
    engine: EngineHarness,
) -> None:
    blocking = Blocking()
    with_blocking = sample_registry(engine.activities, blocking.block)
    worker = await engine.start_worker(registry=with_blocking, options=WorkerOptions(ttl_s=LEASE_S))
    handle = await engine.client.start(
        Waiting, "block", ActivityLimits(60, maximum_attempts=3), id="one"
    )
    await asyncio.to_thread(blocking.begun.wait, 60)
    until = time.monotonic() + 1.5 * LEASE_S
    while time.monotonic() < until:
        other = await engine.run_workflow(
            Chain, ["a", "b"], PAUSE_S, id=f"other-{time.monotonic_ns()}"
        )
        assert other == ["A", "B"]
    blocking.gate.set()

    assert await within(handle.result()) == "attempt 1"
    (thread,) = blocking.calls
    assert thread != threading.get_ident()
    assert worker.sessions == 1


async def test_a_timed_out_plain_activity_keeps_its_thread_until_it_returns(
    engine: EngineHarness,
) -> None:
    blocking = Blocking()
    with_blocking = sample_registry(engine.activities, blocking.block)
    await engine.start_worker(registry=with_blocking, options=WorkerOptions(threads=2))
    limits = ActivityLimits(start_to_close_s=0.5, maximum_attempts=2)
    await engine.client.start(Waiting, "block", limits, id="late")
    head = await engine.until_status("late", ExecutionStatus.COMPLETED)
    assert head.result == "TimeoutError StartToClose"
    # Both threads are in use, so a plain activity waits; an async activity needs no thread.
    third = await engine.client.start(Waiting, "block", ActivityLimits(20), id="third")

    async def is_scheduled() -> bool:
        return bool((await engine.head("third")).activities)

    await eventually(is_scheduled)
    assert await engine.run_workflow(Chain, ["a"], id="other") == ["A"]
    assert len(blocking.calls) == 2
    blocking.gate.set()
    assert await within(third.result()) == "attempt 1"


@pytest.mark.parametrize("heartbeat_s", [0.0, 5.0])
async def test_a_plain_activity_is_cancelled_at_its_next_heartbeat(
    engine: EngineHarness, heartbeat_s: float
) -> None:
    blocking = Blocking()
    await engine.start_worker(registry=sample_registry(engine.activities, blocking.beat))
    limits = ActivityLimits(start_to_close_s=20, heartbeat_s=heartbeat_s)
    handle = await engine.client.start(Waiting, "beat", limits, id="one")
    await asyncio.to_thread(blocking.begun.wait, 20)
    await handle.cancel()

    await engine.until_status("one", ExecutionStatus.CANCELED)
    assert blocking.heartbeat_errors == ["the attempt was cancelled or replaced by another one"]

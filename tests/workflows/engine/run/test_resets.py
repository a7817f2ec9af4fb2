"""A reset is executed once, even if its first attempts fail."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress

import pytest

from core.errors import StoreUnavailable
from core.eventstore.kv import Get, Guard, KeyValueStore, Put, ReadResult, TxnResult, Write
from tests.support.engine_harness import EngineHarness, eventually, within
from tests.support.engine_samples import Basket, Courier, Dynasty
from tests.support.faulty_store import FaultyStore
from workflows.api import workflow
from workflows.api.options import StartOptions
from workflows.engine.client.handles import WorkflowHandle
from workflows.engine.run import execution
from workflows.engine.store.history_reader import read_history
from workflows.engine.store.keys import WorkflowKeys
from workflows.engine.store.records import RunHead
from workflows.engine.worker import shard
from workflows.model import events as ev
from workflows.model.policies import ExecutionStatus


class ResetStore(FaultyStore):
    """A store in which the next resets of the execution ``one`` fail.

    ``reads_to_fail``: how many reads of closed runs raise an error. ``races_to_lose``: how many
    commits fail because the head is rewritten first.
    """

    def __init__(self, store: KeyValueStore, keys: WorkflowKeys) -> None:
        super().__init__(store)
        self._keys = keys
        self.reads_to_fail = 0
        self.races_to_lose = 0

    async def read(self, gets: Sequence[Get], *, revision: int = 0) -> ReadResult:
        reads_closed_runs = Get(*self._keys.closed_runs("one")) in gets
        if reads_closed_runs and self.reads_to_fail:
            self.reads_to_fail -= 1
            raise StoreUnavailable("the connection was refused")
        return await super().read(gets, revision=revision)

    async def commit(
        self, guards: Sequence[Guard], writes: Sequence[Write], otherwise: Sequence[Get] = ()
    ) -> TxnResult:
        closes = any(isinstance(write, Put) and b"/closed/" in write.key for write in writes)
        if closes and self.races_to_lose:
            self.races_to_lose -= 1
            key = self._keys.open("one")
            (head,) = (await self.store.read([Get(key)])).ranges[0].kvs
            await self.store.commit([], [Put(key, head.value)])
        return await super().commit(guards, writes, otherwise)


async def _reset(engine: EngineHarness, *, failed_reads: int = 0, lost_races: int = 0) -> int:
    """Reset ``one``; return the number of messages that remain in the inbox."""
    store = ResetStore(engine.store, engine.client.keys)
    await engine.start_worker(store=store)
    handle = await engine.client.start(Basket, id="one")
    await handle.signal("put", "thing")
    assert await within(handle.query("count")) == 1
    store.reads_to_fail, store.races_to_lose = failed_reads, lost_races
    new_run = await engine.client.reset("one", event_id=1)

    async def is_reset() -> bool:
        return (await engine.head("one")).run_id == new_run

    await eventually(is_reset)
    inbox = (await engine.store.read([Get(*engine.client.keys.inbox_of("one"))])).ranges[0]
    assert await within(engine.client.query("one", "count")) == 1
    assert (await engine.head("one", handle.run_id)).status is ExecutionStatus.TERMINATED
    return inbox.count


async def test_a_reset_is_tried_again_after_a_failed_read(
    engine: EngineHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(execution, "STEP_PAUSE_S", 0.01)
    assert await _reset(engine, failed_reads=2) == 0


async def test_a_reset_is_tried_again_after_a_lost_race(engine: EngineHarness) -> None:
    assert await _reset(engine, lost_races=2) == 0


async def test_timeouts_of_a_reset_run_count_from_its_own_start(
    engine: EngineHarness,
) -> None:
    await engine.start_worker()
    options = StartOptions(run_timeout_s=100.0, execution_timeout_s=300.0)
    handle = await engine.client.start(Basket, id="one", options=options)
    assert await within(handle.query("count")) == 0
    new_run = await engine.client.reset("one", event_id=1)

    async def is_running() -> bool:
        return (await engine.head("one")).run_id == new_run

    await eventually(is_running)
    head = await engine.head("one")
    assert head.run_deadline_ms == head.started_ms + 100_000
    assert head.execution_deadline_ms == head.started_ms + 300_000


async def test_a_reset_of_an_unreadable_history_is_removed_from_the_inbox(
    engine: EngineHarness,
) -> None:
    await engine.start_worker()
    handle = await engine.client.start(Basket, id="one")
    assert await within(handle.query("count")) == 0
    keys = engine.client.keys
    key = keys.event("one", handle.run_id, 1)
    (segment,) = (await engine.store.read([Get(key)])).ranges[0].kvs
    await engine.store.commit([], [Put(key, b"dust")])
    await engine.client.reset("one", event_id=1)

    async def is_removed() -> bool:
        inbox = (await engine.store.read([Get(*keys.inbox_of("one"))])).ranges[0]
        return inbox.count == 0

    await eventually(is_removed)
    await engine.store.commit([], [Put(key, segment.value)])
    assert (await engine.head("one")).run_id == handle.run_id


@workflow.defn()
class Messenger:
    """Puts a parcel into ``basket`` for each signal ``send``, and waits until all are delivered.

    After the signal ``tell`` it sends no more.
    """

    def __init__(self) -> None:
        self.parcels = 0
        self.is_told = False

    @workflow.run
    async def run(self) -> int:
        target = workflow.external("Basket", "basket")
        sending: list[workflow.Task[None]] = []
        while not self.is_told:
            await workflow.wait_condition(lambda: self.is_told or self.parcels > len(sending))
            if not self.is_told:
                delivery = target.signal("put", f"parcel {len(sending)}")
                sending.append(workflow.start(delivery))
        for sent in sending:
            await sent
        return len(sending)

    @workflow.signal
    def send(self) -> None:
        self.parcels += 1

    @workflow.signal
    def tell(self) -> None:
        self.is_told = True


class UnreadableBasket:
    """The execution ``basket`` with an unreadable head. Its messages wait until ``repair``."""

    def __init__(self, engine: EngineHarness, stored: bytes) -> None:
        self._engine = engine
        self._stored = stored

    async def repair(self) -> None:
        await self._engine.store.commit(
            [], [Put(self._engine.client.keys.open("basket"), self._stored)]
        )


async def _messenger(
    engine: EngineHarness, monkeypatch: pytest.MonkeyPatch
) -> tuple[WorkflowHandle, UnreadableBasket]:
    """Start ``one``, a messenger, while the head of ``basket`` is unreadable."""
    monkeypatch.setattr(shard, "RETRY_UNUSABLE_S", 0.02)
    await engine.client.start(Basket, id="basket")
    key = engine.client.keys.open("basket")
    (head,) = (await engine.store.read([Get(key)])).ranges[0].kvs
    await engine.store.commit([], [Put(key, b"dust")])
    engine.registry.include(Messenger)
    await engine.start_worker()
    return await engine.client.start(Messenger, id="one"), UnreadableBasket(engine, head.value)


async def _until_tasks(engine: EngineHarness, run_id: str, number: int) -> list[int]:
    """Wait for ``number`` tasks of a run of ``one``; return the ids of their start events."""

    async def tasks() -> list[int]:
        events = await read_history(engine.store, engine.client.keys, "one", run_id)
        ids = [
            event.event_id
            for event in events
            if isinstance(event.attributes, ev.WorkflowTaskStarted)
        ]
        return ids if len(ids) >= number else []

    return await eventually(tasks)


async def _until_run(engine: EngineHarness, run_id: str) -> RunHead:
    async def is_open() -> RunHead | None:
        head = await engine.head("one")
        return head if head.run_id == run_id else None

    return await eventually(is_open)


async def _parcels(engine: EngineHarness) -> list[str]:
    await engine.client.signal("basket", "close")
    things: list[str] = await within(engine.client.result("basket"))
    return things


async def test_a_reset_run_gets_the_outcome_of_a_request_that_an_earlier_run_has_sent(
    engine: EngineHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    handle, basket = await _messenger(engine, monkeypatch)
    await _until_tasks(engine, handle.run_id, 1)
    await handle.signal("send")
    await _until_tasks(engine, handle.run_id, 2)
    await handle.signal("tell")
    tasks = await _until_tasks(engine, handle.run_id, 3)
    second = await engine.client.reset("one", tasks[-1])
    tasks = await _until_tasks(engine, second, 3)
    third = await engine.client.reset("one", tasks[-1])
    await _until_run(engine, third)
    await basket.repair()

    assert await within(engine.client.result("one", third)) == 1
    assert await _parcels(engine) == ["parcel 0"]
    assert (await engine.head("one")).base_requests == {}


async def test_outcomes_of_requests_after_the_event_of_a_reset_are_not_recorded(
    engine: EngineHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    handle, basket = await _messenger(engine, monkeypatch)
    await _until_tasks(engine, handle.run_id, 1)
    tasks: list[int] = []
    for number in (2, 3, 4):
        await handle.signal("send")
        tasks = await _until_tasks(engine, handle.run_id, number)
    # The second run keeps parcel 0 and sends parcels 1 and 2 again.
    second = await engine.client.reset("one", tasks[2])
    await _until_tasks(engine, second, 3)
    await handle.signal("tell")
    tasks = await _until_tasks(engine, second, 4)
    # The third run keeps parcel 0 of the first run, and parcels 1 and 2 of the second one.
    third = await engine.client.reset("one", tasks[-1])
    await _until_run(engine, third)
    await basket.repair()

    assert await within(engine.client.result("one", third)) == 3
    assert await _parcels(engine) == [f"parcel {number}" for number in (0, 1, 2, 1, 2)]
    outcomes = [
        event.attributes
        for event in await read_history(engine.store, engine.client.keys, "one", third)
        if isinstance(event.attributes, ev.ExternalWorkflowExecutionSignaled)
    ]
    assert [outcome.request_id for outcome in outcomes] == [1, 2, 3]


async def test_a_reset_run_keeps_the_later_outcome_of_a_request_before_the_event(
    engine: EngineHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    handle, basket = await _messenger(engine, monkeypatch)
    await _until_tasks(engine, handle.run_id, 1)
    await handle.signal("send")
    await _until_tasks(engine, handle.run_id, 2)
    await handle.signal("tell")
    tasks = await _until_tasks(engine, handle.run_id, 3)
    await basket.repair()
    assert await within(handle.result()) == 1
    new_run = await engine.client.reset("one", tasks[-1])

    assert await within(engine.client.result("one", new_run)) == 1
    assert await _parcels(engine) == ["parcel 0"]


async def test_a_reset_run_does_not_keep_the_outcome_of_a_request_after_the_event(
    engine: EngineHarness,
) -> None:
    await engine.start_worker()
    await engine.client.start(Basket, id="basket")
    handle = await engine.client.start(Courier, "basket", id="one")
    assert await within(handle.result()) == "delivered"
    new_run = await engine.client.reset("one", event_id=1)

    assert await within(engine.client.result("one", new_run)) == "ApplicationError"


async def test_a_reset_run_keeps_the_later_end_of_a_child_before_the_event(
    engine: EngineHarness,
) -> None:
    await engine.start_worker()
    handle = await engine.client.start(Dynasty, 2, id="one")  # starts only ``child-2``
    tasks = await _until_tasks(engine, handle.run_id, 2)
    await engine.client.signal("child-2", "put", "thing")
    await engine.client.signal("child-2", "close")
    assert await within(handle.result()) == ["thing"]
    new_run = await engine.client.reset("one", tasks[1])

    assert await within(engine.client.result("one", new_run)) == ["thing"]


class ClosingStore(FaultyStore):
    """A store in which ``child-2`` closes directly after a reset has read its runs."""

    def __init__(self, engine: EngineHarness) -> None:
        super().__init__(engine.store)
        self._engine = engine
        self.is_armed = False

    async def read(self, gets: Sequence[Get], *, revision: int = 0) -> ReadResult:
        result = await super().read(gets, revision=revision)
        client = self._engine.client
        if self.is_armed and Get(*client.keys.closed_runs("child-2")) in gets:
            self.is_armed = False
            await client.signal("child-2", "close")
            await client.result("child-2")

            async def has_reported() -> bool:
                inbox = (await self.store.read([Get(*client.keys.inbox_of("one"))])).ranges[0]
                return inbox.count == 1  # only the reset: the report was received or rejected

            with suppress(TimeoutError):
                async with asyncio.timeout(0.5):
                    await eventually(has_reported)
        return result


async def _terminated_parent(
    engine: EngineHarness, store: KeyValueStore | None = None
) -> tuple[WorkflowHandle, int]:
    """Terminate ``one`` while ``child-2`` runs; return the event that starts the last task."""
    await engine.start_worker(store=store)
    handle = await engine.client.start(Dynasty, 2, id="one")
    tasks = await _until_tasks(engine, handle.run_id, 2)
    await handle.terminate()
    await engine.until_status("one", ExecutionStatus.TERMINATED)
    await engine.client.signal("child-2", "put", "thing")
    return handle, tasks[1]


async def test_a_reset_run_gets_the_end_of_a_child_that_ended_while_no_run_was_open(
    engine: EngineHarness,
) -> None:
    _, task = await _terminated_parent(engine)
    await engine.client.signal("child-2", "close")
    assert await within(engine.client.result("child-2")) == ["thing"]
    new_run = await engine.client.reset("one", task)

    assert await within(engine.client.result("one", new_run)) == ["thing"]


async def test_a_reset_of_a_closed_run_gets_the_later_end_of_a_child(
    engine: EngineHarness,
) -> None:
    _, task = await _terminated_parent(engine)
    new_run = await engine.client.reset("one", task)
    await _until_run(engine, new_run)
    await engine.client.signal("child-2", "close")

    assert await within(engine.client.result("one", new_run)) == ["thing"]


async def test_a_reset_run_gets_the_end_of_a_child_that_ends_during_the_reset(
    engine: EngineHarness,
) -> None:
    store = ClosingStore(engine)
    _, task = await _terminated_parent(engine, store)
    store.is_armed = True
    new_run = await engine.client.reset("one", task)

    assert await within(engine.client.result("one", new_run)) == ["thing"]


async def test_a_second_reset_of_a_run_gets_the_end_that_a_child_reported_to_the_first(
    engine: EngineHarness,
) -> None:
    handle, task = await _terminated_parent(engine)
    first = await engine.client.reset("one", task)
    await _until_run(engine, first)
    await engine.client.signal("child-2", "close")
    assert await within(engine.client.result("one", first)) == ["thing"]
    second = await engine.client.reset("one", task, run_id=handle.run_id)

    assert await within(engine.client.result("one", second)) == ["thing"]


async def _finished_after_reset(engine: EngineHarness) -> list[str]:
    """Reset the ``Basket`` that is ``one``, check its new run, put a thing in, and close it."""
    new_run = await engine.client.reset("one", event_id=1)
    await _until_run(engine, new_run)
    await _until_tasks(engine, new_run, 1)
    assert (await engine.find_violations())[1] == []
    await engine.client.signal("one", "put", "thing")
    await engine.client.signal("one", "close")
    things: list[str] = await within(engine.client.result("one", new_run))
    return things


async def test_a_run_that_was_terminated_before_its_first_task_can_be_reset(
    engine: EngineHarness,
) -> None:
    handle = await engine.client.start(Basket, id="one")
    await handle.terminate()
    await engine.start_worker()
    await engine.until_status("one", ExecutionStatus.TERMINATED)

    assert await _finished_after_reset(engine) == ["thing"]


async def test_a_run_that_was_paused_before_its_first_task_can_be_reset(
    engine: EngineHarness,
) -> None:
    await engine.client.start(Basket, id="one")
    await engine.client.pause("one")
    await engine.start_worker()
    await engine.until_status("one", ExecutionStatus.PAUSED)

    assert await _finished_after_reset(engine) == ["thing"]


async def test_a_signal_with_the_same_request_id_is_recorded_once_also_after_a_reset(
    engine: EngineHarness,
) -> None:
    await engine.start_worker()
    handle = await engine.client.start(Basket, id="one")
    await engine.client.signal("one", "put", "thing", request_id="first")
    assert await within(handle.query("count")) == 1
    new_run = await engine.client.reset("one", event_id=1)
    await _until_run(engine, new_run)
    await engine.client.signal("one", "put", "thing", request_id="first")
    await engine.client.signal("one", "close")

    assert await within(engine.client.result("one", new_run)) == ["thing"]

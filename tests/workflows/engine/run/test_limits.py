"""A run that exceeds a limit is paused, or the caller gets an error with the name of the limit.

The workflow ``Endless`` sleeps again and again. The update ``brood`` of ``Basket`` never completes.
"""

from __future__ import annotations

import asyncio

import pytest

from core.errors import BadInput, CallRejected, DeadlineExceeded
from core.eventstore.keys import Keys
from core.eventstore.kv import Delete, Put
from tests.support.engine_harness import EngineHarness, eventually, within
from tests.support.engine_samples import Basket, Courier, Endless, Parent, Sleeper
from workflows.api.options import StartOptions
from workflows.engine.client.client_calls import INBOX_MESSAGES_MAX
from workflows.engine.clock import CANCELLED_MIN, Deadlines, SystemClock
from workflows.engine.run.run_inbox import Updates
from workflows.engine.store.draft import HistoryDraft
from workflows.engine.store.keys import WorkflowKeys, new_id
from workflows.engine.store.records import InboxMessage, RunHead, Signal, Update, encode_message
from workflows.model import limits
from workflows.model.errors import LimitExceeded
from workflows.model.policies import ExecutionStatus, IdConflictPolicy


async def test_too_many_events_in_the_history_pause_the_execution(
    engine: EngineHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "HISTORY_EVENTS_MAX", 200)
    await engine.start_worker()
    handle = await engine.client.start(Endless, id="one")
    head = await engine.until_status("one", ExecutionStatus.PAUSED)

    assert "HISTORY_EVENTS_MAX" in head.reason
    # The limit is checked before each task, so the last task may exceed the limit.
    assert len(await engine.history(handle)) in range(200, 205)


async def test_too_many_bytes_in_the_history_pause_the_execution(
    engine: EngineHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "HISTORY_BYTES_MAX", 4_000)
    await engine.start_worker()
    await engine.client.start(Endless, id="one")
    head = await engine.until_status("one", ExecutionStatus.PAUSED)

    assert "HISTORY_BYTES_MAX is 4000" in head.reason


async def test_updates_in_flight_beyond_the_limit_are_rejected(
    engine: EngineHarness,
) -> None:
    await engine.start_worker()
    basket = await engine.client.start(Basket, id="one")
    waiting_updates = [
        asyncio.ensure_future(basket.update("brood")) for _ in range(limits.UPDATES_IN_FLIGHT_MAX)
    ]

    async def all_accepted() -> bool:
        return len((await engine.head("one")).updates) == limits.UPDATES_IN_FLIGHT_MAX

    await eventually(all_accepted)
    with pytest.raises(CallRejected, match="UPDATES_IN_FLIGHT_MAX is 10"):
        await basket.update("brood")

    await basket.terminate()
    await asyncio.gather(*waiting_updates, return_exceptions=True)


async def test_updates_beyond_the_limit_of_a_run_are_rejected(
    engine: EngineHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "UPDATES_MAX", 1)
    await engine.start_worker()
    basket = await engine.client.start(Basket, id="one")
    await basket.signal("put", "a")
    await basket.update("take", "a")

    with pytest.raises(CallRejected, match="UPDATES_MAX is 1"):
        await basket.update("take", "b")
    await basket.signal("close")
    assert await within(basket.result()) == []


async def test_signals_beyond_the_limit_of_a_run_are_rejected(
    engine: EngineHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workflows.engine.client.client_calls.SIGNALS_MAX", 1)
    await engine.start_worker()
    handle = await engine.client.signal_with_start(
        Basket, id="one", signal="put", signal_args=["a"]
    )
    await handle.query("count")

    with pytest.raises(LimitExceeded, match="SIGNALS_MAX is 1"):
        await handle.signal("put", "b")
    with pytest.raises(LimitExceeded, match="SIGNALS_MAX is 1"):
        await engine.client.signal_with_start(Basket, id="one", signal="close")


async def test_a_signal_beyond_the_receivers_limit_fails_in_the_sending_workflow(
    engine: EngineHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workflows.engine.run.received_events.SIGNALS_MAX", 1)
    await engine.start_worker()
    await engine.client.start(Basket, id="basket")
    courier = await engine.client.start(Courier, "basket", id="courier")

    assert await within(courier.result()) == "ApplicationError"
    assert (await engine.head("basket")).signals == 1


def test_the_next_draft_requests_the_same_updates_after_a_lost_transaction() -> None:
    keys = WorkflowKeys(Keys("test"))
    messages = [
        InboxMessage(b"", str(n), 1, Update(str(n), "take", lease=1))
        for n in range(limits.UPDATES_IN_FLIGHT_MAX)
    ]
    updates = Updates()
    requests = [
        updates.requests(messages, HistoryDraft(keys, RunHead("one", "run", "Basket"), 0))
        for _ in range(2)
    ]

    assert requests[0] == requests[1]
    assert len(requests[0]) == limits.UPDATES_IN_FLIGHT_MAX


async def test_an_invalid_workflow_id_is_rejected(engine: EngineHarness) -> None:
    for wrong in ("x" * (limits.ID_BYTES_MAX + 1), "", "line\nfeed"):
        with pytest.raises(BadInput, match="is not a valid workflow id"):
            await engine.client.start(Basket, id=wrong)


async def test_a_child_with_an_invalid_workflow_id_pauses_the_parent(engine: EngineHarness) -> None:
    await engine.start_worker()
    for number, child_id in enumerate(("x" * (limits.ID_BYTES_MAX + 1), "é" * 200, "line\nfeed")):
        handle = await engine.client.start(Parent, child_id, id=str(number))
        head = await engine.until_status(str(number), ExecutionStatus.PAUSED)
        assert "ID_BYTES_MAX" in head.reason
        await handle.terminate()
        await engine.until_status(str(number), ExecutionStatus.TERMINATED)


async def test_terminate_existing_raises_if_the_open_run_does_not_end_in_time(
    engine: EngineHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workflows.engine.client.client_calls.TERMINATE_S_MAX", 0.05)
    await engine.client.start(Sleeper, id="one")
    options = StartOptions(conflict=IdConflictPolicy.TERMINATE_EXISTING)

    with pytest.raises(DeadlineExceeded, match="did not end within"):
        await within(engine.client.start(Sleeper, id="one", options=options))


async def test_a_message_to_a_full_inbox_is_rejected(engine: EngineHarness) -> None:
    handle = await engine.client.start(Basket, id="one")
    keys, message = engine.client.keys, encode_message(Signal("put", ("thing",)))
    for batch in range(INBOX_MESSAGES_MAX // 100):
        puts = [Put(keys.inbox("one", new_id(batch, order)), message) for order in range(100)]
        await engine.store.commit([], puts)

    for call in (handle.signal("put", "one"), handle.query("count"), handle.update("brood")):
        with pytest.raises(LimitExceeded, match="at most 1000 may wait"):
            await call
    await handle.terminate("enough")
    # The inbox of ``one/other`` is not full, although the keys have a common prefix.
    await engine.client.start(Basket, id="one/other")
    await engine.client.signal("one/other", "put", "thing")
    await engine.store.commit([], [Delete(*keys.inbox_of("one"))])


def test_cancelled_deadlines_are_removed_from_the_heap() -> None:
    deadlines = Deadlines(SystemClock())
    open_deadline = deadlines.after(60, lambda: None)
    for _ in range(100 * CANCELLED_MIN):
        deadlines.after(3600, lambda: None).cancel()

    assert len(deadlines) <= 2 * CANCELLED_MIN
    open_deadline.cancel()

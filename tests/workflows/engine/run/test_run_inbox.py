"""Signals, queries, updates, cancellation and termination.

The workflow ``Basket`` collects the things of signals ``put``, and returns the things after the
signal ``close``. The query ``count`` counts the things, the update ``take`` removes one thing, and
the update ``brood`` never completes. ``Sleeper`` sleeps; a cancelled ``Sleeper`` runs the activity
``tidy``. ``Courier`` signals another execution.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from core.errors import CallRejected, DeadlineExceeded, ExecutionFailed, ExecutionNotFound
from tests.support.engine_harness import EngineHarness, eventually, within
from tests.support.engine_samples import Basket, Chain, Courier, Relay, Sleeper, Tally
from workflows.model.policies import ExecutionStatus


async def test_signals_arrive_in_the_order_in_which_they_were_sent(engine: EngineHarness) -> None:
    await engine.start_worker()
    handle = await engine.client.start(Basket, id="one")
    for number in range(10):
        await handle.signal("put", f"thing-{number}")
    await handle.signal("close")

    assert await within(handle.result()) == [f"thing-{number}" for number in range(10)]


async def test_no_signal_of_many_concurrent_senders_is_lost(engine: EngineHarness) -> None:
    await engine.start_worker()
    handle = await engine.client.start(Basket, id="one")
    await asyncio.gather(*(handle.signal("put", f"{number}") for number in range(40)))
    await handle.signal("close")

    assert sorted(map(int, await within(handle.result()))) == list(range(40))


@pytest.mark.parametrize(("count", "size"), [(300, 1), (60, 15_000)])
async def test_messages_that_do_not_fit_into_one_transaction_are_all_delivered(
    engine: EngineHarness, count: int, size: int
) -> None:
    handle = await engine.client.start(Tally, id="one")
    for _ in range(count):
        await handle.signal("add", "x" * size)
    updated = asyncio.ensure_future(handle.update("added"))
    await handle.signal("close")
    await engine.start_worker()

    assert await within(handle.result()) == count
    with suppress(CallRejected):  # the run may close before the update
        assert await within(updated) == count


async def test_each_accepted_signal_is_in_the_history_even_if_the_run_closes(
    engine: EngineHarness,
) -> None:
    await engine.start_worker()
    for number in range(10):
        handle = await engine.client.start(Basket, id=f"race-{number}")
        sent = await asyncio.gather(
            handle.signal("put", "first"),
            handle.signal("close"),
            *(handle.signal("put", "late") for _ in range(3)),
            return_exceptions=True,
        )
        accepted = sum(answer is None for answer in sent)
        await within(handle.result())
        events = await engine.event_types(handle)
        assert events.count("WorkflowExecutionSignaled") == accepted


async def test_a_signal_sent_twice_under_one_request_id_counts_once(engine: EngineHarness) -> None:
    await engine.start_worker()
    handle = await engine.client.start(Basket, id="one")
    for _ in range(2):
        await engine.client.signal("one", "put", "thing", request_id="same")
    await handle.signal("close")

    assert await within(handle.result()) == ["thing"]


async def test_a_signal_to_an_unknown_execution_is_rejected(engine: EngineHarness) -> None:
    with pytest.raises(ExecutionNotFound):
        await engine.client.signal("unknown", "put", "thing")


async def test_signal_with_start_starts_once_and_signals_every_time(engine: EngineHarness) -> None:
    await engine.start_worker()
    handles = [
        await engine.client.signal_with_start(Basket, id="one", signal="put", signal_args=[word])
        for word in ("a", "b")
    ]
    await handles[0].signal("close")

    assert handles[0].run_id == handles[1].run_id
    assert await within(handles[0].result()) == ["a", "b"]


async def test_the_signal_of_signal_with_start_may_end_the_execution(engine: EngineHarness) -> None:
    await engine.start_worker()
    handle = await engine.client.signal_with_start(Basket, id="one", signal="close")

    assert await within(handle.result()) == []


async def test_a_query_returns_the_state_after_earlier_signals(engine: EngineHarness) -> None:
    await engine.start_worker()
    handle = await engine.client.start(Basket, id="one")
    await handle.signal("put", "thing")

    assert await handle.query("count") == 1


async def test_a_query_of_a_closed_execution_returns_its_last_state(
    engine: EngineHarness,
) -> None:
    await engine.start_worker()
    handle = await engine.client.start(Basket, id="one")
    await handle.signal("put", "thing")
    await handle.signal("close")
    await within(handle.result())

    assert await handle.query("count") == 1


async def test_an_unknown_query_is_rejected_with_its_name(engine: EngineHarness) -> None:
    await engine.start_worker()
    handle = await engine.client.start(Basket, id="one")

    with pytest.raises(CallRejected, match="weigh"):
        await handle.query("weigh")


async def test_a_query_during_continue_as_new_is_answered_by_the_next_run(
    engine: EngineHarness,
) -> None:
    # ``Relay`` continues as new twice; the query ``left`` returns 2, 1 and then 0.
    handle = await engine.client.start(Relay, 2, id="one")
    asking = asyncio.ensure_future(handle.query("left"))

    async def is_sent() -> bool:
        return (await engine.visibility.describe("one")).inbox_messages == 2

    await eventually(is_sent)
    await engine.start_worker()

    assert await within(asking) in (0, 1)


async def test_without_a_worker_a_query_ends_at_its_deadline(engine: EngineHarness) -> None:
    await engine.client.start(Basket, id="one")

    with pytest.raises(DeadlineExceeded):
        await engine.client.query("one", "count", timeout_s=0.05)


async def test_an_update_returns_the_result_of_its_handler(engine: EngineHarness) -> None:
    await engine.start_worker()
    handle = await engine.client.start(Basket, id="one")
    await handle.signal("put", "thing")
    await handle.signal("put", "other")

    assert await within(handle.update("take", "thing")) == 1
    assert "WorkflowExecutionUpdateCompleted" in await engine.event_types(handle)


async def test_an_update_that_the_validator_rejects_is_not_recorded(engine: EngineHarness) -> None:
    await engine.start_worker()
    handle = await engine.client.start(Basket, id="one")

    with pytest.raises(CallRejected, match="no thing here"):
        await within(handle.update("take", "thing"))
    assert not [name for name in await engine.event_types(handle) if "Update" in name]


async def test_updates_with_the_same_id_are_executed_once_and_return_the_same_result(
    engine: EngineHarness,
) -> None:
    await engine.start_worker()
    handle = await engine.client.start(Basket, id="one")
    for thing in ("thing", "other"):
        await handle.signal("put", thing)
    answers = await within(
        asyncio.gather(
            *(engine.client.update("one", "take", "thing", update_id="same") for _ in range(2))
        )
    )
    await handle.signal("close")
    left = await within(handle.result())

    assert [*answers, await engine.client.update("one", "take", update_id="same")] == [1, 1, 1]
    assert left == ["other"]
    assert (await engine.event_types(handle)).count("WorkflowExecutionUpdateAccepted") == 1


async def test_an_accepted_update_is_rejected_when_the_run_is_terminated(
    engine: EngineHarness,
) -> None:
    await engine.start_worker()
    handle = await engine.client.start(Basket, id="one")
    await handle.signal("put", "thing")
    update = asyncio.ensure_future(engine.client.update("one", "brood", update_id="long"))

    async def accepted() -> bool:
        return bool((await engine.head("one")).updates)

    await eventually(accepted)
    await handle.terminate("enough")

    with pytest.raises(CallRejected, match="did not complete"):
        await within(update)


async def test_a_cancelled_execution_runs_its_cleanup_before_it_ends(engine: EngineHarness) -> None:
    await engine.start_worker()
    handle = await engine.client.start(Sleeper, id="one")
    await eventually(lambda: _timers(engine))
    await handle.cancel("enough")

    with pytest.raises(ExecutionFailed) as ended:
        await within(handle.result())
    assert ended.value.status == "Canceled"
    assert engine.activities.calls == ["tidy"]


async def _timers(engine: EngineHarness) -> bool:
    return bool((await engine.head("one")).timers)


async def test_a_terminated_execution_ends_without_running_its_code(engine: EngineHarness) -> None:
    await engine.start_worker()
    handle = await engine.client.start(Sleeper, id="one")
    await handle.terminate("enough")

    with pytest.raises(ExecutionFailed, match="enough"):
        await within(handle.result())
    assert engine.activities.calls == []


async def test_one_execution_signals_another(engine: EngineHarness) -> None:
    await engine.start_worker()
    basket = await engine.client.start(Basket, id="basket")

    assert await engine.run_workflow(Courier, "basket", id="courier") == "delivered"
    assert await within(basket.result()) == ["parcel"]


async def test_a_signal_to_an_unknown_execution_raises_in_the_sending_workflow(
    engine: EngineHarness,
) -> None:
    await engine.start_worker()

    assert await engine.run_workflow(Courier, "unknown", id="courier") == "ApplicationError"


async def test_lists_find_executions_by_type_status_and_attributes(engine: EngineHarness) -> None:
    from workflows.engine.client.visibility import Filter

    await engine.start_worker()
    await engine.client.start(Sleeper, id="s")
    await engine.run_workflow(Chain, ["a"], id="c")
    await eventually(lambda: _mood(engine))

    async def ids(**wanted: object) -> list[str]:
        heads = await engine.visibility.newest_first(Filter(**wanted))  # type: ignore[arg-type]
        return [head.workflow_id for head in heads]

    assert await ids(attributes={"mood": "sleepy"}) == ["s"]
    assert await ids(workflow_type="Chain") == ["c"]
    assert await ids(statuses=(ExecutionStatus.RUNNING,)) == ["s"]
    assert sorted(await ids()) == ["c", "s"]


async def _mood(engine: EngineHarness) -> bool:
    return bool((await engine.head("s")).search_attributes)

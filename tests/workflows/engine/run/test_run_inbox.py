"""Executions handle signals, queries, updates, cancellation and termination.

The workflow ``Basket`` collects the thing of each signal ``put`` until the signal ``close``. Its
query ``count`` counts the things, its update ``take`` removes a thing, and its update ``brood``
never completes. A cancelled ``Sleeper`` runs the activity ``tidy``.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from core.errors import CallRejected, DeadlineExceeded, ExecutionFailed, ExecutionNotFound
from tests.support.engine_harness import EngineHarness, eventually, within
from tests.support.engine_samples import Basket, Chain, Courier, Relay, Sleeper, Tally
from workflows.model.policies import ExecutionStatus


async def test_signals_arrive_in_the_order_of_sending(engine: EngineHarness) -> None:
    await engine.start_worker()
    handle = await engine.client.start(Basket, id="one")
    for number in range(10):
        await handle.signal("put", f"thing-{number}")
    await handle.signal("close")

    assert await within(handle.result()) == [f"thing-{number}" for number in range(10)]


async def test_all_signals_of_concurrent_senders_arrive(engine: EngineHarness) -> None:
    await engine.start_worker()
    handle = await engine.client.start(Basket, id="one")
    await asyncio.gather(*(handle.signal("put", f"{number}") for number in range(40)))
    await handle.signal("close")

    assert sorted(map(int, await within(handle.result()))) == list(range(40))


@pytest.mark.parametrize(("count", "size"), [(300, 1), (60, 15_000)])
async def test_all_messages_arrive_if_they_fill_several_transactions(
    engine: EngineHarness, count: int, size: int
) -> None:
    handle = await engine.client.start(Tally, id="one")
    for _ in range(count):
        await handle.signal("add", "x" * size)
    updated = asyncio.ensure_future(handle.update("added"))
    await handle.signal("close")
    await engine.start_worker()

    assert await within(handle.result()) == count
    with suppress(CallRejected):  # the run may close before it handles the update
        assert await within(updated) == count


async def test_the_history_has_each_accepted_signal_of_a_closing_run(
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
        accepted_count = sum(answer is None for answer in sent)
        await within(handle.result())
        events = await engine.event_types(handle)
        assert events.count("WorkflowExecutionSignaled") == accepted_count


async def test_a_signal_sent_twice_with_one_request_id_is_handled_once(
    engine: EngineHarness,
) -> None:
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


async def test_the_error_for_an_unknown_query_names_the_query(engine: EngineHarness) -> None:
    await engine.start_worker()
    handle = await engine.client.start(Basket, id="one")

    with pytest.raises(CallRejected, match="weigh"):
        await handle.query("weigh")


async def test_the_next_run_answers_a_query_during_continue_as_new(
    engine: EngineHarness,
) -> None:
    # ``Relay`` continues as new twice; the query ``left`` returns 2, 1 and then 0.
    handle = await engine.client.start(Relay, 2, id="one")
    query = asyncio.ensure_future(handle.query("left"))

    async def is_sent() -> bool:
        return (await engine.visibility.describe("one")).inbox_messages == 2

    await eventually(is_sent)
    await engine.start_worker()

    assert await within(query) in (0, 1)


async def test_a_query_ends_at_its_deadline_if_no_worker_runs(engine: EngineHarness) -> None:
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


async def test_updates_with_one_id_run_once_and_return_one_result(
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
    things = await within(handle.result())

    assert [*answers, await engine.client.update("one", "take", update_id="same")] == [1, 1, 1]
    assert things == ["other"]
    assert (await engine.event_types(handle)).count("WorkflowExecutionUpdateAccepted") == 1


async def test_an_accepted_update_is_rejected_when_the_run_is_terminated(
    engine: EngineHarness,
) -> None:
    await engine.start_worker()
    handle = await engine.client.start(Basket, id="one")
    await handle.signal("put", "thing")
    update = asyncio.ensure_future(engine.client.update("one", "brood", update_id="long"))

    async def is_accepted() -> bool:
        return bool((await engine.head("one")).updates)

    await eventually(is_accepted)
    await handle.terminate("enough")

    with pytest.raises(CallRejected, match="did not complete"):
        await within(update)


async def test_a_cancelled_execution_runs_its_cleanup_before_it_ends(engine: EngineHarness) -> None:
    await engine.start_worker()
    handle = await engine.client.start(Sleeper, id="one")
    await eventually(lambda: _has_timers(engine))
    await handle.cancel("enough")

    with pytest.raises(ExecutionFailed) as ended:
        await within(handle.result())
    assert ended.value.status == "Canceled"
    assert engine.activities.calls == ["tidy"]


async def _has_timers(engine: EngineHarness) -> bool:
    return bool((await engine.head("one")).timers)


async def test_a_terminated_execution_runs_no_cleanup(engine: EngineHarness) -> None:
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
    await eventually(lambda: _has_mood(engine))

    async def ids(**conditions: object) -> list[str]:
        heads = await engine.visibility.newest_first(Filter(**conditions))  # type: ignore[arg-type]
        return [head.workflow_id for head in heads]

    assert await ids(attributes={"mood": "sleepy"}) == ["s"]
    assert await ids(workflow_type="Chain") == ["c"]
    assert await ids(statuses=(ExecutionStatus.RUNNING,)) == ["s"]
    assert sorted(await ids()) == ["c", "s"]


async def _has_mood(engine: EngineHarness) -> bool:
    return bool((await engine.head("s")).search_attributes)

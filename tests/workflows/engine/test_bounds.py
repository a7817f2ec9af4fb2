"""What a run may have and do is bounded, and whoever meets a bound reads its name (I10)."""

from __future__ import annotations

import asyncio

import pytest

from core.errors import BadInput, CallRejected
from core.store.keys import Keys
from tests.workflows.engine.sample import Basket, Courier, Endless
from tests.workflows.engine.stage import Stage, eventually, within
from workflows.engine import keys
from workflows.engine.calls import Updates
from workflows.engine.draft import Draft
from workflows.engine.keys import WorkflowKeys
from workflows.engine.records import Head, Letter, Update
from workflows.model import limits
from workflows.model.errors import LimitExceeded
from workflows.model.policies import Status


async def test_a_history_that_is_full_pauses_the_execution_by_name(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "HISTORY_EVENTS_MAX", 200)
    await stage.worker()
    handle = await stage.client.start(Endless, id="one")
    head = await stage.until_status("one", Status.PAUSED)

    assert "HISTORY_EVENTS_MAX" in head.reason
    assert len(await stage.history(handle)) in range(200, 205)


async def test_a_history_that_has_too_many_bytes_pauses_the_execution_by_name(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "HISTORY_BYTES_MAX", 4_000)
    await stage.worker()
    await stage.client.start(Endless, id="one")
    head = await stage.until_status("one", Status.PAUSED)

    assert "HISTORY_BYTES_MAX is 4000" in head.reason


async def test_updates_that_are_on_their_way_are_bounded(stage: Stage) -> None:
    await stage.worker()
    basket = await stage.client.start(Basket, id="one")
    brooding = [asyncio.ensure_future(basket.update("brood")) for _ in range(10)]

    async def all_accepted() -> bool:
        return len((await stage.head("one")).updates) == limits.UPDATES_IN_FLIGHT_MAX

    await eventually(all_accepted)
    with pytest.raises(CallRejected, match="UPDATES_IN_FLIGHT_MAX is 10"):
        await basket.update("brood")

    await basket.terminate()
    await asyncio.gather(*brooding, return_exceptions=True)


async def test_a_run_that_has_all_the_updates_it_may_have_refuses_more(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "UPDATES_MAX", 1)
    await stage.worker()
    basket = await stage.client.start(Basket, id="one")
    await basket.signal("put", "a")
    await basket.update("take", "a")

    with pytest.raises(CallRejected, match="UPDATES_MAX is 1"):
        await basket.update("take", "b")
    await basket.signal("close")
    assert await within(basket.result()) == []


async def test_a_run_that_has_all_the_signals_it_may_have_refuses_more(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workflows.engine.client.SIGNALS_MAX", 1)
    await stage.worker()
    handle = await stage.client.signal_with_start(Basket, id="one", signal="put", signal_args=["a"])
    await handle.query("count")

    with pytest.raises(LimitExceeded, match="SIGNALS_MAX is 1"):
        await handle.signal("put", "b")
    with pytest.raises(LimitExceeded, match="SIGNALS_MAX is 1"):
        await stage.client.signal_with_start(Basket, id="one", signal="close")


async def test_a_workflow_that_signals_too_often_is_refused(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workflows.engine.intake.SIGNALS_MAX", 1)
    await stage.worker()
    await stage.client.start(Basket, id="basket")
    courier = await stage.client.start(Courier, "basket", id="courier")

    assert await within(courier.result()) == "ApplicationError"
    assert (await stage.head("basket")).signals == 1


def test_updates_whose_transaction_was_lost_are_asked_again() -> None:
    keys = WorkflowKeys(Keys("test"))
    letters = [
        Letter(b"", str(n), 1, Update(str(n), "take", lease=1))
        for n in range(limits.UPDATES_IN_FLIGHT_MAX)
    ]
    updates = Updates()
    asked = [updates.requests(letters, Draft(keys, Head("one", "run", "Basket"), 0)) for _ in "ab"]

    assert asked[0] == asked[1]
    assert len(asked[0]) == limits.UPDATES_IN_FLIGHT_MAX


async def test_an_id_that_is_too_long_or_no_text_is_refused(stage: Stage) -> None:
    for wrong in ("x" * (keys.ID_BYTES_MAX + 1), "", "line\nfeed"):
        with pytest.raises(BadInput, match="is no workflow id"):
            await stage.client.start(Basket, id=wrong)

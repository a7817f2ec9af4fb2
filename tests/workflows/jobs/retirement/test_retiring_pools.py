"""A pool that was told to go: nothing new is claimed, what is claimed ends, then it is deleted."""

from __future__ import annotations

import pytest

from core.domain.configuration.commands import Reinstate
from core.domain.events import PoolDeleted, PoolRetired
from core.errors import AllocationError, StoreUnavailable
from tests.support.nodes import pod
from tests.workflows.jobs.retirement.stage import Stage, blue, red
from workflows.jobs.retirement.pool import PoolRetirement
from workflows.jobs.retirement.retirement_values import (
    HOLDERS_SHOWN_MAX,
    RetirementRequest,
    RetirementResult,
)
from workflows.jobs.retirement.retirement_wait import PAUSE_S_MAX, PAUSE_S_MIN, pause_s
from workflows.jobs.writers import ShardWriters
from workflows.model.policies import ExecutionStatus


async def test_an_empty_pool_is_deleted_at_once(stage: Stage) -> None:
    await stage.node.apply(blue())
    handle = await stage.retire("blue")

    assert await handle.result() == RetirementResult("deleted", 0.0)
    assert await stage.retiring() == {}


async def test_a_pool_in_use_goes_with_its_last_claim_and_gives_out_none_meanwhile(
    stage: Stage,
) -> None:
    await stage.node.apply(blue())
    await stage.pods("web-0", "web-1")
    handle = await stage.retire("blue")
    with pytest.raises(AllocationError):
        await stage.pods("web-2")
    await stage.end("web-0")
    assert await stage.retiring() == {"blue": True}

    await stage.end("web-1")

    assert await handle.status() is ExecutionStatus.COMPLETED
    assert await stage.retiring() == {}


async def test_status_tells_how_many_claims_are_left_whose_and_since_when(stage: Stage) -> None:
    await stage.node.apply(blue())
    await stage.pods("web-0", "web-1")
    handle = await stage.retire(
        "blue", RetirementRequest("blue", deadline_s=3_600, ordered_by="ann")
    )
    status = await stage.status(handle)
    held = {one.claim.pod: (address, one.revision) for address, one in (
        await stage.node.truth()
    ).claims.items()}  # fmt: skip

    assert (status["state"], status["claims"], status["ordered_by"]) == ("held", 2, "ann")
    assert {one["pod"]: (one["address"], one["position"]) for one in status["holders"]} == {
        f"shop/{name}": where for name, where in held.items()
    }
    assert (status["since"], status["deadline"]) == (
        "2023-11-14T22:13:20+00:00",
        "2023-11-14T23:13:20+00:00",
    )


async def test_many_claims_are_counted_and_some_are_named(stage: Stage) -> None:
    await stage.node.apply(blue()._replace(ips=("10.6.0.10-10.6.0.30", "10.6.0.40-10.6.0.60")))
    await stage.pods(*(f"web-{number}" for number in range(30)))
    status = await stage.status(await stage.retire("blue"))

    assert (status["claims"], len(status["holders"])) == (30, HOLDERS_SHOWN_MAX)


async def test_a_cancelled_retirement_lets_the_pool_serve_again(stage: Stage) -> None:
    await stage.node.apply(blue())
    await stage.pods("web-0")
    handle = await stage.retire("blue")
    await handle.cancel("changed our minds")
    await stage.node.view.freshen()
    await stage.pods("web-1")

    assert await handle.status() is ExecutionStatus.CANCELED
    assert await stage.retiring() == {"blue": False}


async def test_a_pool_that_was_taken_back_by_hand_ends_its_retirement(stage: Stage) -> None:
    await stage.node.apply(blue())
    await stage.pods("web-0")
    handle = await stage.retire("blue")
    await stage.node.apply(Reinstate("pool", "blue"))
    await handle.signal("look")

    assert (await handle.result()).state == "serving"
    assert await stage.retiring() == {"blue": False}


async def test_a_lost_word_costs_a_slow_look_and_nothing_else(stage: Stage) -> None:
    await stage.node.apply(blue())
    await stage.pods("web-0")
    handle = await stage.retire("blue")
    await stage.node.delete(pod("web-0"))
    await stage.environment.advance(PAUSE_S_MIN - 1)
    assert await stage.retiring() == {"blue": True}
    await stage.environment.advance(2)

    assert await handle.status() is ExecutionStatus.COMPLETED


async def test_days_without_news_costs_a_look_an_hour(stage: Stage) -> None:
    await stage.node.apply(blue())
    await stage.pods("web-0")
    handle = await stage.retire("blue")
    await stage.environment.advance(2 * 86_400)
    looks = (await handle.event_types()).count("ActivityTaskScheduled")

    assert looks <= 2 * 24 + 7
    assert await handle.status() is ExecutionStatus.RUNNING


def test_pauses_grow_from_a_minute_to_an_hour() -> None:
    assert [pause_s(looks) for looks in (0, 1, 2, 5, 6, 10_000)] == [
        PAUSE_S_MIN, 120.0, 240.0, 1_920.0, PAUSE_S_MAX, PAUSE_S_MAX,
    ]  # fmt: skip


async def test_a_deadline_that_is_over_is_told_and_the_pool_waits_on(stage: Stage) -> None:
    await stage.node.apply(blue())
    await stage.pods("web-0")
    handle = await stage.retire("blue", RetirementRequest("blue", deadline_s=90))
    await stage.environment.advance(91)
    overdue = await stage.status(handle)
    await stage.end("web-0")

    assert overdue["state"] == "overdue"
    assert (await handle.result()).state == "deleted"


async def test_a_deadline_can_give_the_pool_back(stage: Stage) -> None:
    await stage.node.apply(blue())
    await stage.pods("web-0")
    handle = await stage.retire("blue", RetirementRequest("blue", 90, "reinstate"))
    await stage.environment.advance(91)

    assert (await handle.result()).state == "serving"
    assert await stage.retiring() == {"blue": False}


async def test_another_order_moves_the_deadline(stage: Stage) -> None:
    await stage.node.apply(blue())
    await stage.pods("web-0")
    handle = await stage.retire("blue", RetirementRequest("blue", 90, "reinstate"))
    await stage.environment.advance(60)
    await handle.signal("order", RetirementRequest("blue", 90, "reinstate"))
    await stage.environment.advance(60)
    assert await stage.retiring() == {"blue": True}
    await stage.environment.advance(31)

    assert await stage.retiring() == {"blue": False}


async def test_a_step_never_touches_a_pool_of_that_name_that_was_made_anew(stage: Stage) -> None:
    await stage.node.apply(blue())
    handle = await stage.retire("blue")
    await handle.result()
    await stage.node.apply(blue())
    late = await stage.environment.start(
        PoolRetirement, RetirementRequest("blue"), workflow_id="late"
    )

    assert (await late.result()).state == "serving"
    assert await stage.retiring() == {"blue": False}
    assert await stage.events(PoolDeleted) == 1


async def test_a_store_that_is_away_delays_and_is_told(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    await stage.node.apply(blue())
    await stage.pods("web-0")
    handle = await stage.retire("blue")

    async def away(*_: object) -> None:
        raise StoreUnavailable("no route to etcd")

    with monkeypatch.context() as patch:
        patch.setattr(ShardWriters, "apply", away)
        await stage.environment.advance(600)
        told = await stage.status(handle)
    await stage.end("web-0")
    await stage.environment.advance(3_600)

    assert "no route to etcd" in str(told["fault"])
    assert (await handle.result()).state == "deleted"


async def test_the_next_run_goes_on_where_the_last_one_was(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workflows.model.limits.HISTORY_EVENTS_SUGGEST", 25)
    await stage.node.apply(blue())
    await stage.pods("web-0")
    handle = await stage.retire("blue", RetirementRequest("blue", deadline_s=86_400))
    before = await stage.status(handle)
    await stage.environment.advance(3_600)
    after = await stage.status(handle)
    await stage.end("web-0")

    assert len(await stage.environment.runs("retire/pool/blue")) > 1
    assert (after["since"], after["deadline"]) == (before["since"], before["deadline"])
    assert (await handle.result()).took_s == 3_600


async def test_pools_that_do_not_retire_are_left_alone(stage: Stage) -> None:
    await stage.node.apply(blue(), red())
    await stage.pods("web-0")
    await stage.retire("red")

    assert await stage.retiring() == {"blue": False}
    assert await stage.events(PoolRetired) == 1

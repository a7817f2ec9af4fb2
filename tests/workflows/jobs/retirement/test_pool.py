"""A retiring pool gets no new claims. The pool is deleted after the release of the last claim."""

from __future__ import annotations

import pytest

from core.domain.configuration.commands import Reinstate
from core.domain.events import PoolDeleted, PoolRetired
from core.errors import AllocationError, StoreUnavailable
from tests.support.node_harness import pod
from tests.workflows.jobs.retirement.retirement_harness import (
    RetirementHarness,
    blue_pool,
    red_pool,
)
from workflows.jobs.retirement.pool import PoolRetirement
from workflows.jobs.retirement.retirement_values import (
    CHECK_SIGNAL,
    HOLDERS_SHOWN_MAX,
    REQUEST_SIGNAL,
    RetirementRequest,
    RetirementResult,
)
from workflows.jobs.retirement.retirement_wait import PAUSE_S_MAX, PAUSE_S_MIN, pause_s
from workflows.jobs.shard_writers import ShardWriters
from workflows.model.policies import ExecutionStatus


async def test_a_pool_without_claims_is_deleted_by_the_first_step(
    harness: RetirementHarness,
) -> None:
    await harness.node.apply(blue_pool())
    handle = await harness.retire("blue")

    assert await handle.result() == RetirementResult("deleted", 0.0)
    assert await harness.is_retiring_by_pool() == {}


async def test_a_retiring_pool_gets_no_claim_and_is_deleted_after_its_last_release(
    harness: RetirementHarness,
) -> None:
    await harness.node.apply(blue_pool())
    await harness.add_pods("web-0", "web-1")
    handle = await harness.retire("blue")
    with pytest.raises(AllocationError):
        await harness.add_pods("web-2")
    await harness.delete_pods("web-0")
    assert await harness.is_retiring_by_pool() == {"blue": True}

    await harness.delete_pods("web-1")

    assert await handle.status() is ExecutionStatus.COMPLETED
    assert await harness.is_retiring_by_pool() == {}


async def test_status_lists_the_deadline_and_each_claim_with_its_pod(
    harness: RetirementHarness,
) -> None:
    await harness.node.apply(blue_pool())
    await harness.add_pods("web-0", "web-1")
    handle = await harness.retire(
        "blue", RetirementRequest("blue", deadline_s=3_600, ordered_by="ann")
    )
    status = await harness.status(handle)
    ledger = await harness.node.read_ledger()
    claims_of_log = {
        f"shop/{stored.claim.pod}": (address, stored.revision)
        for address, stored in ledger.claims.items()
    }
    claims_of_status = {
        holder["pod"]: (holder["address"], holder["position"]) for holder in status["holders"]
    }

    assert (status["state"], status["claims"], status["ordered_by"]) == ("held", 2, "ann")
    assert claims_of_status == claims_of_log
    assert (status["since"], status["deadline"]) == (
        "2023-11-14T22:13:20+00:00",
        "2023-11-14T23:13:20+00:00",
    )


async def test_status_counts_all_claims_and_lists_a_limited_number(
    harness: RetirementHarness,
) -> None:
    pod_count = HOLDERS_SHOWN_MAX + 10
    await harness.node.apply(
        blue_pool()._replace(ips=("10.6.0.10-10.6.0.30", "10.6.0.40-10.6.0.60"))
    )
    await harness.add_pods(*(f"web-{number}" for number in range(pod_count)))
    status = await harness.status(await harness.retire("blue"))

    assert (status["claims"], len(status["holders"])) == (pod_count, HOLDERS_SHOWN_MAX)


async def test_a_pool_whose_retirement_was_cancelled_gets_claims_again(
    harness: RetirementHarness,
) -> None:
    await harness.node.apply(blue_pool())
    await harness.add_pods("web-0")
    handle = await harness.retire("blue")
    await handle.cancel("changed our minds")
    await harness.node.view.freshen()
    await harness.add_pods("web-1")

    assert await handle.status() is ExecutionStatus.CANCELED
    assert await harness.is_retiring_by_pool() == {"blue": False}


async def test_the_retirement_ends_after_an_operator_reinstates_the_pool(
    harness: RetirementHarness,
) -> None:
    await harness.node.apply(blue_pool())
    await harness.add_pods("web-0")
    handle = await harness.retire("blue")
    await harness.node.apply(Reinstate("pool", "blue"))
    await handle.signal(CHECK_SIGNAL)

    assert (await handle.result()).state == "serving"
    assert await harness.is_retiring_by_pool() == {"blue": False}


async def test_the_next_step_deletes_the_pool_without_a_signal(
    harness: RetirementHarness,
) -> None:
    await harness.node.apply(blue_pool())
    await harness.add_pods("web-0")
    handle = await harness.retire("blue")
    await harness.node.delete(pod("web-0"))  # sends no signal, unlike ``harness.delete_pods``
    await harness.environment.advance(PAUSE_S_MIN - 1)
    assert await harness.is_retiring_by_pool() == {"blue": True}
    await harness.environment.advance(2)

    assert await handle.status() is ExecutionStatus.COMPLETED


async def test_a_waiting_retirement_runs_one_step_an_hour(harness: RetirementHarness) -> None:
    await harness.node.apply(blue_pool())
    await harness.add_pods("web-0")
    handle = await harness.retire("blue")
    await harness.environment.advance(2 * 86_400)
    steps = (await handle.event_types()).count("ActivityTaskScheduled")
    first_steps = 7  # while the pauses grow to an hour

    assert steps <= 2 * 24 + first_steps
    assert await handle.status() is ExecutionStatus.RUNNING


def test_pauses_grow_from_a_minute_to_an_hour() -> None:
    assert [pause_s(steps) for steps in (0, 1, 2, 5, 6, 10_000)] == [
        PAUSE_S_MIN, 120.0, 240.0, 1_920.0, PAUSE_S_MAX, PAUSE_S_MAX,
    ]  # fmt: skip


async def test_a_retirement_is_overdue_after_the_deadline_and_continues(
    harness: RetirementHarness,
) -> None:
    await harness.node.apply(blue_pool())
    await harness.add_pods("web-0")
    handle = await harness.retire("blue", RetirementRequest("blue", deadline_s=90))
    await harness.environment.advance(91)
    overdue_status = await harness.status(handle)
    await harness.delete_pods("web-0")

    assert overdue_status["state"] == "overdue"
    assert (await handle.result()).state == "deleted"


async def test_the_pool_is_reinstated_at_the_deadline_if_requested(
    harness: RetirementHarness,
) -> None:
    await harness.node.apply(blue_pool())
    await harness.add_pods("web-0")
    handle = await harness.retire("blue", RetirementRequest("blue", 90, at_deadline="reinstate"))
    await harness.environment.advance(91)

    assert (await handle.result()).state == "serving"
    assert await harness.is_retiring_by_pool() == {"blue": False}


async def test_a_second_request_moves_the_deadline(harness: RetirementHarness) -> None:
    await harness.node.apply(blue_pool())
    await harness.add_pods("web-0")
    handle = await harness.retire("blue", RetirementRequest("blue", 90, at_deadline="reinstate"))
    await harness.environment.advance(60)
    await handle.signal(REQUEST_SIGNAL, RetirementRequest("blue", 90, at_deadline="reinstate"))
    await harness.environment.advance(60)
    assert await harness.is_retiring_by_pool() == {"blue": True}
    await harness.environment.advance(31)

    assert await harness.is_retiring_by_pool() == {"blue": False}


async def test_a_step_does_not_delete_a_newer_pool_of_the_same_name(
    harness: RetirementHarness,
) -> None:
    await harness.node.apply(blue_pool())
    handle = await harness.retire("blue")
    await handle.result()
    await harness.node.apply(blue_pool())
    late_execution = await harness.environment.start(
        PoolRetirement, RetirementRequest("blue"), workflow_id="late"
    )

    assert (await late_execution.result()).state == "serving"
    assert await harness.is_retiring_by_pool() == {"blue": False}
    assert await harness.count_events(PoolDeleted) == 1


async def test_an_unavailable_store_delays_the_deletion_and_status_shows_the_error(
    harness: RetirementHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    await harness.node.apply(blue_pool())
    await harness.add_pods("web-0")
    handle = await harness.retire("blue")

    async def fail(*_: object) -> None:
        raise StoreUnavailable("no route to etcd")

    with monkeypatch.context() as patch:
        patch.setattr(ShardWriters, "apply", fail)
        await harness.environment.advance(600)
        failed_status = await harness.status(handle)
    await harness.delete_pods("web-0")
    await harness.environment.advance(3_600)

    assert "no route to etcd" in str(failed_status["fault"])
    assert (await handle.result()).state == "deleted"


async def test_continue_as_new_keeps_the_start_and_the_deadline(
    harness: RetirementHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workflows.model.limits.HISTORY_EVENTS_SUGGEST", 25)
    await harness.node.apply(blue_pool())
    await harness.add_pods("web-0")
    handle = await harness.retire("blue", RetirementRequest("blue", deadline_s=86_400))
    first_status = await harness.status(handle)
    await harness.environment.advance(3_600)
    later_status = await harness.status(handle)
    await harness.delete_pods("web-0")

    assert len(await harness.environment.runs("retire/pool/blue")) > 1
    assert (later_status["since"], later_status["deadline"]) == (
        first_status["since"],
        first_status["deadline"],
    )
    assert (await handle.result()).took_s == 3_600


async def test_the_retirement_of_a_pool_leaves_other_pools_unchanged(
    harness: RetirementHarness,
) -> None:
    await harness.node.apply(blue_pool(), red_pool())
    await harness.add_pods("web-0")
    await harness.retire("red")

    assert await harness.is_retiring_by_pool() == {"blue": False}
    assert await harness.count_events(PoolRetired) == 1

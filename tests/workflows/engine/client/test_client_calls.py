"""Executions start and end; policies decide whether a start may use an id again.

The workflow ``Basket`` runs until the signal ``close``.
"""

from __future__ import annotations

import pytest

from core.errors import AlreadyStarted, BadInput, ExecutionFailed, ExecutionNotFound
from tests.support.engine_harness import EngineHarness, within
from tests.support.engine_samples import Basket, Chain, Counting, Poisoned, Sleeper
from workflows.api.options import StartOptions
from workflows.engine.store.keys import RUN_ID_CHARS, new_id, next_run_id
from workflows.model.policies import ExecutionStatus, IdConflictPolicy, IdReusePolicy


async def test_an_execution_runs_its_activities_and_returns(engine: EngineHarness) -> None:
    await engine.start_worker()

    assert await engine.run_workflow(Chain, ["a", "b"], id="one") == ["A", "B"]
    assert (await engine.head("one")).status is ExecutionStatus.COMPLETED


async def test_a_waiting_execution_runs_after_a_worker_starts(
    engine: EngineHarness,
) -> None:
    handle = await engine.client.start(Chain, ["a"], id="early")
    await engine.start_worker()

    assert await within(handle.result()) == ["A"]


async def test_the_id_of_an_open_execution_cannot_be_used_again(engine: EngineHarness) -> None:
    await engine.start_worker()
    first = await engine.client.start(Basket, id="one")

    with pytest.raises(AlreadyStarted) as refused:
        await engine.client.start(Basket, id="one")

    assert refused.value.run_id == first.run_id


@pytest.mark.parametrize("policy", list(IdReusePolicy))
async def test_every_reuse_policy_rejects_the_id_of_an_open_execution(
    engine: EngineHarness, policy: IdReusePolicy
) -> None:
    first = await engine.client.start(Basket, id="one")

    with pytest.raises(AlreadyStarted) as refused:
        await within(engine.client.start(Basket, id="one", options=StartOptions(reuse=policy)))

    assert refused.value.run_id == first.run_id


async def test_a_start_with_use_existing_returns_the_open_execution(engine: EngineHarness) -> None:
    await engine.start_worker()
    first = await engine.client.start(Basket, id="one")
    second = await engine.client.start(
        Basket, id="one", options=StartOptions(conflict=IdConflictPolicy.USE_EXISTING)
    )

    assert second.run_id == first.run_id


async def test_a_start_with_terminate_existing_replaces_the_open_execution(
    engine: EngineHarness,
) -> None:
    await engine.start_worker()
    first = await engine.client.start(Basket, id="one")
    options = StartOptions(conflict=IdConflictPolicy.TERMINATE_EXISTING)
    second = await within(engine.client.start(Chain, ["a"], id="one", options=options))

    assert await within(second.result()) == ["A"]
    assert (await engine.head("one", first.run_id)).status is ExecutionStatus.TERMINATED


async def test_the_id_of_a_completed_execution_can_be_reused(engine: EngineHarness) -> None:
    await engine.start_worker()

    results = [await engine.run_workflow(Chain, ["a"], id="one") for _ in range(2)]

    assert results == [["A"], ["A"]]


async def test_the_failed_only_policy_rejects_the_id_of_a_completed_execution(
    engine: EngineHarness,
) -> None:
    await engine.start_worker()
    await engine.run_workflow(Chain, ["a"], id="one")
    options = StartOptions(reuse=IdReusePolicy.ALLOW_DUPLICATE_FAILED_ONLY)

    with pytest.raises(AlreadyStarted):
        await engine.client.start(Chain, ["b"], id="one", options=options)


async def test_the_failed_only_policy_accepts_the_id_of_a_terminated_execution(
    engine: EngineHarness,
) -> None:
    await engine.start_worker()
    first = await engine.client.start(Basket, id="one")
    await first.terminate("enough")
    with pytest.raises(ExecutionFailed):
        await within(first.result())
    options = StartOptions(reuse=IdReusePolicy.ALLOW_DUPLICATE_FAILED_ONLY)
    second = await engine.client.start(Chain, ["b"], id="one", options=options)

    assert await within(second.result()) == ["B"]


async def test_reject_duplicate_rejects_the_id_of_a_completed_execution(
    engine: EngineHarness,
) -> None:
    await engine.start_worker()
    options = StartOptions(reuse=IdReusePolicy.REJECT_DUPLICATE)
    first = await engine.client.start(Chain, ["a"], id="one", options=options)
    await within(first.result())

    with pytest.raises(AlreadyStarted):
        await engine.client.start(Chain, ["a"], id="one", options=options)


async def test_ids_with_slashes_name_separate_executions(engine: EngineHarness) -> None:
    await engine.start_worker()
    for name in ("a", "a/b", "a/b/c"):
        assert await engine.run_workflow(Chain, [name], id=name) == [name.upper()]

    assert len(await engine.visibility.newest_first()) == 3


async def test_an_empty_id_is_refused(engine: EngineHarness) -> None:
    with pytest.raises(BadInput):
        await engine.client.start(Chain, ["a"], id="")


async def test_waiting_for_an_unknown_execution_raises_not_found(engine: EngineHarness) -> None:
    with pytest.raises(ExecutionNotFound):
        await engine.client.result("unknown")


async def test_a_non_retryable_failure_reaches_the_workflow(engine: EngineHarness) -> None:
    await engine.start_worker()

    assert await engine.run_workflow(Poisoned) == "ApplicationError"
    assert engine.activities.calls == ["poison"]


async def test_a_run_continues_as_new_with_the_same_id(engine: EngineHarness) -> None:
    await engine.start_worker()
    # Three runs continue as new; the fourth run returns the id of the third.
    handle = await engine.client.start(Counting, 3, id="one")
    continued_from = await within(handle.result())

    runs = await engine.visibility.newest_first()
    assert len(runs) == 4
    assert continued_from in {head.run_id for head in runs}
    assert sum(head.status is ExecutionStatus.CONTINUED_AS_NEW for head in runs) == 3


async def test_a_run_times_out_after_its_run_timeout(engine: EngineHarness) -> None:
    await engine.start_worker()
    handle = await engine.client.start(Sleeper, id="one", options=StartOptions(run_timeout_s=0.05))

    with pytest.raises(ExecutionFailed) as ended:
        await within(handle.result())
    assert ended.value.status == "TimedOut"


def test_each_next_run_id_sorts_after_the_previous_run_id() -> None:
    run_ids = [new_id(1_700_000_000_000)]
    for now_ms in (1_700_000_000_000, 1_699_999_999_999, 1_700_000_000_001):
        run_ids.append(next_run_id(run_ids[-1], now_ms))

    assert run_ids == sorted(run_ids)
    assert {len(run_id) for run_id in run_ids} == {RUN_ID_CHARS}

"""Workers own equal shares of the shards, and take over the shards of dead workers."""

from __future__ import annotations

import asyncio

import pytest

from tests.support.engine_harness import EngineHarness, eventually, within
from tests.support.engine_samples import Basket, Chain, Sleeper
from workflows.engine.store.keys import SHARD_COUNT, shard_of
from workflows.engine.worker.ownership import plan
from workflows.engine.worker.worker import WorkerOptions


def test_every_shard_has_one_owner_for_any_number_of_workers() -> None:
    for count in range(1, 24):
        workers = [f"worker-{number}" for number in range(count)]
        owners: dict[int, str] = {}
        for name in workers:
            for shard in plan(owners, workers, name).claim:
                owners[shard] = name
        assert len(owners) == SHARD_COUNT


def test_a_worker_releases_the_shards_beyond_its_share() -> None:
    owners = dict.fromkeys(range(SHARD_COUNT), "a")

    assert len(plan(owners, ["a", "b"], "a").release) == SHARD_COUNT // 2
    assert plan(owners, ["a", "b"], "b").claim == ()


def test_ids_spread_over_all_shards() -> None:
    assert {shard_of(f"id-{number}") for number in range(1_000)} == set(range(SHARD_COUNT))


async def test_all_shards_have_an_owner_after_workers_start_and_stop(
    engine: EngineHarness,
) -> None:
    first = await engine.start_worker()
    second = await engine.start_worker()

    async def own_halves() -> bool:
        return len(first.shards) == len(second.shards) == SHARD_COUNT // 2

    await eventually(own_halves)
    assert set(first.shards) | set(second.shards) == set(range(SHARD_COUNT))
    await second.close()

    async def owns_all() -> bool:
        return len(first.shards) == SHARD_COUNT

    await eventually(owns_all)


async def test_executions_continue_while_shards_change_their_owner(engine: EngineHarness) -> None:
    await engine.start_worker()
    handles = [
        await engine.client.start(Chain, ["a", "b", "c"], 0.01, id=f"one-{number}")
        for number in range(40)
    ]
    second = await engine.start_worker()
    third = await engine.start_worker()
    await second.close()
    results = await within(asyncio.gather(*(handle.result() for handle in handles)))

    assert results == [["A", "B", "C"]] * 40
    assert third.sessions == 1  # the worker has kept its first session


async def test_another_worker_takes_over_the_executions_of_a_dead_worker(
    engine: EngineHarness,
) -> None:
    dead = await engine.start_worker(options=WorkerOptions(ttl_s=2))
    basket = await engine.client.start(Basket, id="basket")
    await basket.signal("put", "thing")
    await dead.abandon()
    await engine.start_worker()
    await basket.signal("close")

    assert await within(basket.result()) == ["thing"]


async def test_timers_continue_with_the_new_owner(engine: EngineHarness) -> None:
    dead = await engine.start_worker()
    handle = await engine.client.start(Sleeper, 0.5, id="sleeper")

    async def is_asleep() -> bool:
        return bool((await engine.head("sleeper")).timers)

    await eventually(is_asleep)
    await engine.kill_worker(dead)
    await engine.start_worker()

    assert await within(handle.result()) == "slept"


async def test_replay_restores_the_state_of_an_uncached_execution(
    engine: EngineHarness,
) -> None:
    worker = await engine.start_worker(options=WorkerOptions(cached_runs=1))
    baskets = [await engine.client.start(Basket, id=f"basket-{number}") for number in range(5)]
    for word in ("a", "b"):
        for basket in baskets:
            await basket.signal("put", word)
    for basket in baskets:
        await basket.signal("close")

    for basket in baskets:
        assert await within(basket.result()) == ["a", "b"]
    assert worker.term is not None
    assert len(worker.term.parts.interpreter_parts.cache) <= 1


async def test_a_worker_that_lost_its_session_opens_a_new_session(engine: EngineHarness) -> None:
    worker = await engine.start_worker()
    assert worker.term is not None
    await engine.store.revoke_lease(worker.term.session.lease)

    async def has_new_session() -> bool:
        return worker.sessions > 1 and len(worker.shards) == SHARD_COUNT

    await eventually(has_new_session)
    assert await engine.run_workflow(Chain, ["a"]) == ["A"]


@pytest.mark.parametrize("count", [1, 3])
async def test_workers_own_equal_shares_of_the_shards(engine: EngineHarness, count: int) -> None:
    workers = [await engine.start_worker() for _ in range(count)]

    async def all_own_shards() -> bool:
        owned = [shard for worker in workers for shard in worker.shards]
        return sorted(owned) == list(range(SHARD_COUNT)) and all(
            worker.shards for worker in workers
        )

    await eventually(all_own_shards)
    assert {len(worker.shards) for worker in workers} <= {
        SHARD_COUNT // count,
        SHARD_COUNT // count + 1,
    }

"""etcd away, restarted, or answering nothing: work waits, goes on, and happens once."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

from core.store.etcd import EtcdSettings, EtcdStore
from core.store.memory import MemoryStore
from tests.support.etcd import EtcdCluster
from tests.support.faulty_store import Fault, FaultyStore
from tests.workflows.engine.sample import Basket, Steady
from tests.workflows.engine.stage import Stage, eventually, within
from tests.workflows.faults.conftest import judge
from workflows.engine.worker import WorkerOptions


async def test_work_goes_on_after_the_store_was_away_for_longer_than_a_lease() -> None:
    store = FaultyStore(MemoryStore())
    stage = Stage(store.store)
    worker = await stage.worker(store=store, options=WorkerOptions(ttl_s=2))
    handles = [
        await stage.client.start(Steady, ["a", "b"], 0.01, id=f"steady-{number}")
        for number in range(20)
    ]
    assert worker.term is not None
    first = worker.term.session
    store.is_unavailable = True
    # Its own clock ends the session; whatever the store would say, it stops to believe in it.
    await within(first.lost.wait())
    store.is_unavailable = False
    results = await within(asyncio.gather(*(handle.result() for handle in handles)))

    assert results == [["A", "B"]] * 20
    assert worker.sessions > 1
    await judge(stage)
    await stage.close()


async def test_a_short_absence_of_the_store_costs_no_session() -> None:
    store = FaultyStore(MemoryStore())
    stage = Stage(store.store)
    worker = await stage.worker(store=store)
    basket = await stage.client.start(Basket, id="basket")
    store.is_unavailable = True
    await basket.signal("put", "thing")
    await basket.signal("close")
    store.is_unavailable = False

    assert await within(basket.result()) == ["thing"]
    assert worker.sessions == 1
    await judge(stage)
    await stage.close()


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_lost_answers_double_and_lose_nothing(seed: int) -> None:
    chance = random.Random(seed)
    store = FaultyStore(MemoryStore())
    stage = Stage(store)
    await stage.worker()
    handles = []
    for number in range(20):
        store.fail_next_commits(*chance.choices(list(Fault), k=2))
        handles.append(await stage.client.start(Steady, ["a", "b"], 0.001, id=f"steady-{number}"))
        basket = await stage.client.start(Basket, id=f"basket-{number}")
        store.fail_next_commits(*chance.choices(list(Fault), k=2))
        await basket.signal("put", "once")
        await basket.signal("close")
        assert await within(basket.result()) == ["once"]
    results = await within(asyncio.gather(*(handle.result() for handle in handles)))

    assert results == [["A", "B"]] * 20
    store.heal()
    await judge(stage)
    await stage.close()


@pytest.mark.etcd
async def test_executions_outlive_a_restart_of_etcd(tmp_path: Path) -> None:
    with EtcdCluster(tmp_path) as cluster:
        stage = Stage(EtcdStore(EtcdSettings(cluster.endpoints)))
        await stage.worker()
        handles = [
            await stage.client.start(Steady, ["a", "b", "c"], 0.05, id=f"steady-{number}")
            for number in range(50)
        ]

        async def begun() -> bool:
            return len(stage.world.calls) > 50

        await eventually(begun)
        cluster.members[0].kill()
        await asyncio.to_thread(cluster.restart, cluster.members[0])
        results = await within(asyncio.gather(*(handle.result() for handle in handles)))

        assert results == [["A", "B", "C"]] * 50
        await judge(stage)
        await stage.close()
        await stage.store.close()

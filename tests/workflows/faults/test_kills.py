"""Executions complete although workers die at any commit, and a former owner cannot write.

The workflows ``Chain`` and ``Steady`` return their words in upper case. ``Parent`` runs a ``Chain``
of a and b. The update ``take`` of ``Basket`` returns the number of remaining things.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from typing import Any

import pytest

from core.eventstore.memory_store import MemoryStore
from tests.support.counters import Counters
from tests.support.engine_harness import EngineHarness, eventually, within
from tests.support.engine_samples import Basket, Chain, Deadly, Parent, Steady, sample_registry
from tests.workflows.faults.conftest import check_histories
from tests.workflows.faults.killing import KillingStore, KillMoment, kill
from workflows.api import activity
from workflows.api.definitions import Registry
from workflows.engine.client.handles import WorkflowHandle
from workflows.engine.run.execution import Execution
from workflows.engine.store.draft import HistoryDraft
from workflows.engine.worker.worker import Worker
from workflows.model.events import WorkflowExecutionSignaled
from workflows.model.policies import ExecutionStatus

COMMITS_MAX = 60
"""More commits than the executions of one test need."""


async def _start_executions(engine: EngineHarness) -> list[WorkflowHandle]:
    basket = await engine.client.signal_with_start(
        Basket, id="basket", signal="put", signal_args=["thing"]
    )
    chain = await engine.client.start(Chain, ["a", "b"], 0.001, id="chain")
    parent = await engine.client.start(Parent, "child", id="parent")
    await basket.signal("close")
    return [basket, chain, parent]


@pytest.mark.parametrize("moment", list(KillMoment))
async def test_executions_have_their_results_after_a_kill_at_any_write(moment: KillMoment) -> None:
    for at in itertools.count(1):
        engine = EngineHarness(MemoryStore())
        handles = await _start_executions(engine)
        store = KillingStore(engine.store, at, moment)
        worker = await _start_worker_on(engine, store)
        results = asyncio.gather(*(handle.result() for handle in handles))
        await _until_death_or_results(store, results)
        was_killed = store.died.is_set()
        if was_killed:
            await kill(engine, worker)
            await engine.start_worker("next")
        assert await within(results) == [["thing"], ["A", "B"], ["A", "B"]]
        await check_histories(engine)
        await engine.close()
        assert at < COMMITS_MAX
        if not was_killed:
            return


@pytest.mark.parametrize("moment", list(KillMoment))
async def test_an_update_runs_once_despite_a_kill_at_any_write(
    moment: KillMoment,
) -> None:
    for at in itertools.count(1):
        engine = EngineHarness(MemoryStore())
        basket = await engine.client.signal_with_start(
            Basket, id="basket", signal="put", signal_args=["thing"]
        )
        store = KillingStore(engine.store, at, moment)
        worker = await _start_worker_on(engine, store)
        update = asyncio.ensure_future(basket.update("take", "thing"))
        await _until_death_or_results(store, update)
        was_killed = store.died.is_set()
        if was_killed:
            await kill(engine, worker)
            await engine.start_worker("next")
        assert await within(update) == 0
        types = await engine.event_types(basket)
        assert types.count("WorkflowExecutionUpdateCompleted") == 1
        await check_histories(engine)
        await engine.close()
        assert at < COMMITS_MAX
        if not was_killed:
            return


async def _start_worker_on(
    engine: EngineHarness, store: KillingStore, registry: Registry | None = None
) -> Worker:
    worker = Worker(store, engine.keys, registry or engine.registry, name="killed")
    engine.workers.append(worker)
    worker.start()
    return worker


async def _until_death_or_results(store: KillingStore, results: asyncio.Future[Any]) -> None:
    died: asyncio.Future[Any] = asyncio.ensure_future(store.died.wait())
    await within(asyncio.wait({died, results}, return_when=asyncio.FIRST_COMPLETED))
    died.cancel()


async def test_many_executions_survive_many_kills(engine: EngineHarness) -> None:
    rng = random.Random(20)
    handles = [
        await engine.client.start(Steady, list("abcdef"), 0.002, id=f"steady-{number}")
        for number in range(300)
    ]
    results = asyncio.gather(*(handle.result() for handle in handles))
    while not results.done():
        store = KillingStore(engine.store, rng.randrange(4, 16), rng.choice(list(KillMoment)))
        worker = await _start_worker_on(engine, store)
        await _until_death_or_results(store, results)
        if store.died.is_set():
            await kill(engine, worker)

    assert await within(results) == [list("ABCDEF")] * 300
    assert Counters.kills


async def test_only_one_worker_writes_if_two_act_as_owner(
    engine: EngineHarness,
) -> None:
    old = await engine.start_worker("old")
    basket = await engine.client.start(Basket, id="basket")
    assert old.term is not None
    # The old owner's lease expires while the old owner's clock still shows the lease as valid.
    await engine.store.revoke_lease(old.term.session.lease)
    await engine.start_worker("new")
    for word in ("a", "b"):
        await basket.signal("put", word)
    await basket.signal("close")

    assert await within(basket.result()) == ["a", "b"]


async def test_a_former_owner_cannot_write(engine: EngineHarness) -> None:
    old = await engine.start_worker("old")
    await engine.client.start(Basket, id="basket")

    async def is_loaded() -> bool:
        return (await engine.head("basket")).next_event_id > 1

    await eventually(is_loaded)
    term = old.term
    assert term is not None
    shard = next(shard for shard in term.shards.values() if shard.executions)
    execution = shard.executions["basket"]
    await kill(engine, old)
    await engine.start_worker("new")
    before = await engine.head("basket")
    late_commit = await engine.store.commit(
        [shard.fence], execution._transaction(_draft_of_a_signal(execution), 0)[1]
    )

    assert not late_commit.succeeded
    assert await engine.head("basket") == before


def _draft_of_a_signal(execution: Execution) -> HistoryDraft:
    draft = HistoryDraft(execution._store.keys, execution.head, 0)
    draft.add(WorkflowExecutionSignaled("put", ("stolen",)))
    return draft


async def test_an_activity_that_kills_its_workers_pauses_the_execution(
    engine: EngineHarness,
) -> None:
    stores: list[KillingStore] = []

    @activity.defn(name="deadly")
    async def deadly() -> None:
        stores[-1].died.set()
        await asyncio.Event().wait()

    with_deadly = sample_registry(engine.activities, deadly)
    handle = await engine.client.start(Deadly, 3, id="deadly")
    for _ in range(3):
        # No commit kills the worker: the activity does.
        stores.append(KillingStore(engine.store, 10_000, KillMoment.BEFORE))
        worker = await _start_worker_on(engine, stores[-1], with_deadly)
        await within(stores[-1].died.wait())
        await kill(engine, worker)
    await engine.start_worker("survivor", registry=with_deadly)
    head = await engine.until_status("deadly", ExecutionStatus.PAUSED)

    assert "lost in attempt 3" in head.reason
    assert "ActivityTaskCompleted" not in await engine.event_types(handle)

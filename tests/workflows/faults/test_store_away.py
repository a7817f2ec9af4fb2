"""Executions wait while etcd is stopped or does not answer, and continue when it is back.

The session of a worker is a lease in the store. A worker that loses its lease opens a new session.
The workflow ``Steady`` returns its words in upper case; its activities are retried without limit.
"""

from __future__ import annotations

import asyncio
import random
from enum import Enum
from pathlib import Path

import pytest

from core.errors import ExecutionNotFound, OutcomeUnknown, StoreUnavailable
from core.eventstore.etcd import EtcdSettings, EtcdStore
from core.eventstore.memory_store import MemoryStore
from tests.support.engine_harness import EngineHarness, eventually, within
from tests.support.engine_samples import Basket, Sleeper, Steady
from tests.support.etcd import EtcdCluster
from tests.support.faulty_store import Fault, FaultyStore
from tests.workflows.faults.conftest import check_histories
from workflows.engine.worker.worker import WorkerOptions


async def test_executions_continue_after_a_store_outage_that_outlasts_the_lease() -> None:
    store = FaultyStore(MemoryStore())
    engine = EngineHarness(store.store)
    worker = await engine.start_worker(store=store, options=WorkerOptions(ttl_s=2))
    handles = [
        await engine.client.start(Steady, ["a", "b"], 0.01, id=f"steady-{number}")
        for number in range(20)
    ]
    assert worker.term is not None
    first_session = worker.term.session
    store.is_unavailable = True
    # The worker ends the session by its own clock, without an answer of the store.
    await within(first_session.lost.wait())
    store.is_unavailable = False
    results = await within(asyncio.gather(*(handle.result() for handle in handles)))

    assert results == [["A", "B"]] * 20
    assert worker.sessions > 1
    await check_histories(engine)
    await engine.close()


async def test_a_short_outage_of_the_store_ends_no_session() -> None:
    store = FaultyStore(MemoryStore())
    engine = EngineHarness(store.store)
    worker = await engine.start_worker(store=store)
    basket = await engine.client.start(Basket, id="basket")
    store.is_unavailable = True
    await basket.signal("put", "thing")
    await basket.signal("close")
    store.is_unavailable = False

    assert await within(basket.result()) == ["thing"]
    assert worker.sessions == 1
    await check_histories(engine)
    await engine.close()


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_executions_complete_after_the_store_loses_answers(seed: int) -> None:
    rng = random.Random(seed)
    store = FaultyStore(MemoryStore())
    engine = EngineHarness(store)
    await engine.start_worker()
    handles = []
    for number in range(20):
        store.fail_next_commits(*rng.choices(list(Fault), k=2))
        handles.append(await engine.client.start(Steady, ["a", "b"], 0.001, id=f"steady-{number}"))
        basket = await engine.client.start(Basket, id=f"basket-{number}")
        store.fail_next_commits(*rng.choices(list(Fault), k=2))
        await basket.signal("put", "once")
        await basket.signal("close")
        assert await within(basket.result()) == ["once"]
    results = await within(asyncio.gather(*(handle.result() for handle in handles)))

    assert results == [["A", "B"]] * 20
    store.heal()
    await check_histories(engine)
    await engine.close()


class Outage(Enum):
    """Outages of a real etcd that last longer than a session's lease."""

    HUNG = "SIGSTOP and SIGCONT: connections stay open, nothing answers"
    KILLED = "SIGKILL, and a new process on the same data"


@pytest.mark.etcd
@pytest.mark.parametrize("outage", list(Outage))
async def test_executions_continue_after_an_etcd_outage_that_outlasts_the_lease(
    tmp_path: Path, outage: Outage, caplog: pytest.LogCaptureFixture
) -> None:
    with EtcdCluster(tmp_path) as cluster:
        engine = EngineHarness(EtcdStore(EtcdSettings(cluster.endpoints)))
        worker = await engine.start_worker(options=WorkerOptions(ttl_s=2))
        handles = [
            await engine.client.start(Steady, ["a", "b", "c"], 0.05, id=f"steady-{number}")
            for number in range(50)
        ]
        sleeper = await engine.client.start(Sleeper, 1.0, id="sleeper")
        basket = await engine.client.start(Basket, id="basket")

        async def have_begun() -> bool:
            return len(engine.activities.calls) > 50

        await eventually(have_begun)
        assert worker.term is not None
        session = worker.term.session
        (member,) = cluster.members
        member.pause() if outage is Outage.HUNG else member.kill()
        signalling = asyncio.ensure_future(_put_and_close(engine))
        await within(session.lost.wait())

        async def has_given_up() -> bool:
            return "opens a new session" in caplog.text

        if outage is Outage.HUNG:
            member.resume()
        else:
            await eventually(has_given_up)  # a call of the worker has exceeded its deadline
            await asyncio.to_thread(cluster.restart, member)
        possible_counts = await within(signalling)
        results = await within(asyncio.gather(*(handle.result() for handle in handles)))

        assert results == [["A", "B", "C"]] * 50
        assert await within(sleeper.result()) == "slept"
        assert (await within(basket.result())).count("thing") in possible_counts
        assert worker.sessions > 1
        await check_histories(engine)
        await engine.close()
        await engine.store.close()


async def _put_and_close(engine: EngineHarness) -> set[int]:
    """Return the possible numbers of things in the basket."""
    possible_counts = {1}
    try:
        await engine.client.signal("basket", "put", "thing", request_id="only")
    except (StoreUnavailable, OutcomeUnknown) as error:
        possible_counts = {0, 1} if isinstance(error, OutcomeUnknown) else {0}
    await eventually(lambda: _close(engine))
    return possible_counts


async def _close(engine: EngineHarness) -> bool:
    try:
        await engine.client.signal("basket", "close", request_id="closing")
    except (StoreUnavailable, OutcomeUnknown):
        return False
    except ExecutionNotFound:
        pass  # an earlier signal has closed the basket
    return True

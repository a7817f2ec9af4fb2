"""Messages are unreadable, or arrive before their execution starts or while it closes.

The workflow ``Parent`` starts a child with the given id. ``Courier`` signals the given id, and
returns the type of the error.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from itertools import count

import pytest

from core.errors import CallRejected
from core.eventstore.kv import Delete, Get, Guard, KeyValueStore, Put, TxnResult, Write
from tests.support.engine_harness import EngineHarness, within
from tests.support.engine_samples import Basket, Chain, Courier, Parent
from tests.support.faulty_store import FaultyStore
from workflows.engine.store.keys import new_id, shard_of
from workflows.engine.store.records import Signal, Start, encode_message
from workflows.engine.worker import shard


async def test_an_unreadable_message_does_not_stop_its_execution(engine: EngineHarness) -> None:
    keys = engine.client.keys
    await engine.store.commit([], [Put(keys.inbox("one", new_id(0)), b"of a newer version")])
    await engine.start_worker()
    handle = await engine.client.start(Basket, id="one")
    await engine.store.commit([], [Put(keys.inbox("one", new_id(1)), b"another one")])
    await handle.signal("put", "thing")
    await handle.signal("close")

    assert await within(handle.result()) == ["thing"]


async def test_an_unreadable_head_and_its_messages_are_not_changed(
    engine: EngineHarness,
) -> None:
    keys = engine.client.keys
    head, message = keys.open("one"), keys.inbox("one", new_id(0))
    puts = [
        Put(head, b"of a newer version"),
        Put(message, encode_message(Signal("put", ("thing",)))),
    ]
    await engine.store.commit([], puts)
    neighbour = next(name for name in map(str, count()) if shard_of(name) == shard_of("one"))
    await engine.start_worker()

    assert await engine.run_workflow(Chain, ["a"], id=neighbour) == ["A"]
    ranges = (await engine.store.read([Get(head), Get(message)])).ranges
    assert [stored.count for stored in ranges] == [1, 1]
    await engine.store.commit([], [Delete(head), Delete(message)])


async def test_signals_to_a_child_that_cannot_start_fail_in_the_sender(
    engine: EngineHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_started, check_may_fail = asyncio.Event(), asyncio.Event()

    async def may_start(_store: object, _start: Start) -> bool:
        check_started.set()
        await check_may_fail.wait()
        raise RuntimeError("a bug")

    monkeypatch.setattr(shard, "may_start", may_start)
    await engine.start_worker()
    await engine.client.start(Parent, "child", id="parent")
    await within(check_started.wait())
    courier = await engine.client.start(Courier, "child", id="courier")
    check_may_fail.set()

    assert await within(courier.result()) == "ApplicationError"


class SlowStore(FaultyStore):
    """If ``shall_wait``, a commit that closes a run returns after ``released`` is set."""

    def __init__(self, store: KeyValueStore) -> None:
        super().__init__(store)
        self.shall_wait = False
        self.closed = asyncio.Event()
        self.released = asyncio.Event()

    async def commit(
        self, guards: Sequence[Guard], writes: Sequence[Write], otherwise: Sequence[Get] = ()
    ) -> TxnResult:
        result = await super().commit(guards, writes, otherwise)
        closes = any(isinstance(write, Put) and b"/closed/" in write.key for write in writes)
        if self.shall_wait and closes:
            self.closed.set()
            await self.released.wait()
        return result


async def test_a_query_ends_if_its_run_closes_and_a_new_run_starts(
    engine: EngineHarness,
) -> None:
    store = SlowStore(engine.store)
    await engine.start_worker(store=store)
    handle = await engine.client.start(Basket, id="one")
    assert await within(handle.query("count")) == 0
    store.shall_wait = True
    await handle.signal("close")
    await within(store.closed.wait())
    query = asyncio.ensure_future(handle.query("count"))
    await asyncio.sleep(0)
    next_run = await engine.client.start(Chain, ["a"], id="one")
    store.released.set()

    with suppress(CallRejected):  # the next run, a ``Chain``, may reject the query
        await within(query)
    assert await within(next_run.result()) == ["A"]

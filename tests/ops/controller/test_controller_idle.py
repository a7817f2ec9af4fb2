"""An idle controller makes few requests to etcd."""

from __future__ import annotations

import asyncio

import pytest

from core.eventstore.election import LEADER, Leader
from core.eventstore.keys import Keys
from core.eventstore.kv import KeyValueStore, Put
from core.eventstore.memory import MemoryStore
from core.process.concurrency import until_first
from core.projections.projector import Projector
from ops.controller import observer
from ops.controller.observer import ControllerObserver
from ops.settings import CONTROLLER_ROLE
from tests.core.projections.running_projector import following
from tests.support.node_harness import NodeHarness, pod, pool

PERIOD_S = 0.01
"""Instead of two seconds; the quiet period is unchanged."""


class CountedObserving(ControllerObserver):
    """Counts its reads."""

    looks = 0

    def __init__(self, store: KeyValueStore, keys: Keys, projector: Projector, role: str) -> None:
        super().__init__(store, keys, projector, role)
        self.led = asyncio.Event()

    async def observe(self) -> None:
        await super().observe()
        self.looks += 1
        if self.leader is not None:
            self.led.set()

    async def until_looks(self, count: int, seconds: float = 60) -> None:
        """Wait for this number of reads. Raises TimeoutError."""
        async with asyncio.timeout(seconds):
            while self.looks < count:
                await asyncio.sleep(PERIOD_S)


async def test_the_observer_asks_often_only_while_something_is_wrong_or_moves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(observer, "OBSERVE_PERIOD_S", PERIOD_S)
    monkeypatch.setattr(observer, "VACANT_PERIOD_S", PERIOD_S)
    async with NodeHarness(MemoryStore()) as node, following(node) as one:
        await node.apply(pool("blue", "10.6.0.10-10.6.0.19"))
        await one.wait_until_current(node)
        found = CountedObserving(node.store, node.keys, one.projector, CONTROLLER_ROLE)
        running = asyncio.create_task(found.run())

        await found.until_looks(5)  # there is no leader
        key = node.keys.lease(CONTROLLER_ROLE)
        await node.store.commit([], [Put(key, LEADER.encode(Leader("c-1", 0)))])
        async with asyncio.timeout(60):
            await found.led.wait()
        with pytest.raises(TimeoutError):
            await found.until_looks(found.looks + 1, 30 * PERIOD_S)
        await node.add(pod("web-0"))
        await found.until_looks(found.looks + 1)
        running.cancel()

    assert found.leader == Leader("c-1", 0)
    assert found.fault is None


async def test_a_leader_is_seen_before_the_usual_period_is_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(observer, "OBSERVE_PERIOD_S", 3_600.0)
    monkeypatch.setattr(observer, "VACANT_PERIOD_S", PERIOD_S)
    store, keys = MemoryStore(), Keys("test")
    projector = Projector(store, keys)
    found = CountedObserving(store, keys, projector, CONTROLLER_ROLE)
    running = asyncio.create_task(until_first(projector.run(), found.run()))

    await found.until_looks(2)
    await store.commit([], [Put(keys.lease(CONTROLLER_ROLE), LEADER.encode(Leader("c-1", 0)))])
    async with asyncio.timeout(60):
        await found.led.wait()
    running.cancel()

    assert found.leader == Leader("c-1", 0)

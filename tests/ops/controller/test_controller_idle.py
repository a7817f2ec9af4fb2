"""An idle controller makes few requests to etcd.

Its observer reads the values of health probes and metrics from etcd.
"""

from __future__ import annotations

import asyncio

import pytest

from core.eventstore.election import LEADER_CODEC, Leader
from core.eventstore.keys import Keys
from core.eventstore.kv import KeyValueStore, Put
from core.eventstore.memory_store import MemoryStore
from core.process.concurrency import until_first
from core.projections.projector import Projector
from ops.controller import observer
from ops.controller.observer import ControllerObserver
from ops.settings import CONTROLLER_ROLE
from tests.core.projections.running_projector import run_new_projector
from tests.support.node_harness import NodeHarness, pod, pool

PERIOD_S = 0.01
"""The periods in production are longer."""


class ReadCountingObserver(ControllerObserver):
    reads = 0

    def __init__(self, store: KeyValueStore, keys: Keys, projector: Projector, role: str) -> None:
        super().__init__(store, keys, projector, role)
        self.leader_found = asyncio.Event()

    async def observe(self) -> None:
        await super().observe()
        self.reads += 1
        if self.leader is not None:
            self.leader_found.set()

    async def until_reads(self, count: int, seconds: float = 60) -> None:
        """Raise TimeoutError after ``seconds``."""
        async with asyncio.timeout(seconds):
            while self.reads < count:
                await asyncio.sleep(PERIOD_S)


async def test_an_observer_with_a_leader_reads_only_after_a_change(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(observer, "OBSERVE_PERIOD_S", PERIOD_S)
    monkeypatch.setattr(observer, "VACANT_PERIOD_S", PERIOD_S)
    async with NodeHarness(MemoryStore()) as node, run_new_projector(node) as running_projector:
        await node.apply(pool("blue", "10.6.0.10-10.6.0.19"))
        await running_projector.wait_until_current(node)
        counting_observer = ReadCountingObserver(
            node.store, node.keys, running_projector.projector, CONTROLLER_ROLE
        )
        running = asyncio.create_task(counting_observer.run())

        await counting_observer.until_reads(5)  # there is no leader
        key = node.keys.lease(CONTROLLER_ROLE)
        await node.store.commit([], [Put(key, LEADER_CODEC.encode(Leader("c-1", 0)))])
        async with asyncio.timeout(60):
            await counting_observer.leader_found.wait()
        # With a leader and without a change, the observer does not read.
        with pytest.raises(TimeoutError):
            await counting_observer.until_reads(counting_observer.reads + 1, 30 * PERIOD_S)
        await node.add(pod("web-0"))
        await counting_observer.until_reads(counting_observer.reads + 1)
        running.cancel()

    assert counting_observer.leader == Leader("c-1", 0)
    assert counting_observer.fault is None


async def test_a_new_leader_is_read_before_the_usual_period_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(observer, "OBSERVE_PERIOD_S", 3_600.0)
    monkeypatch.setattr(observer, "VACANT_PERIOD_S", PERIOD_S)
    store, keys = MemoryStore(), Keys("test")
    projector = Projector(store, keys)
    counting_observer = ReadCountingObserver(store, keys, projector, CONTROLLER_ROLE)
    running = asyncio.create_task(until_first(projector.run(), counting_observer.run()))

    await counting_observer.until_reads(2)
    await store.commit(
        [], [Put(keys.lease(CONTROLLER_ROLE), LEADER_CODEC.encode(Leader("c-1", 0)))]
    )
    async with asyncio.timeout(60):
        await counting_observer.leader_found.wait()
    running.cancel()

    assert counting_observer.leader == Leader("c-1", 0)

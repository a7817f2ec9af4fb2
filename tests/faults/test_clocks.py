"""Clocks that jump change the recorded times of events, never the events or their order."""

from __future__ import annotations

import itertools

from core.allocation.cooldown import LEASE_SHARED_S, CoolDown
from core.domain.events import AddressesClaimed, AddressesReleased
from core.eventstore.memory import MemoryStore
from core.eventstore.writer import Writer
from tests.support.node_harness import NodeHarness, addresses, check_everything, pod, pool

DAY_MS = 86_400_000


async def test_wall_clocks_that_differ_by_days_change_neither_order_nor_invariants() -> None:
    store = MemoryStore()
    async with NodeHarness(store, "node-a") as ahead, NodeHarness(store, "node-b") as behind:
        ahead.writer._now_ms = itertools.count(10 * DAY_MS, -DAY_MS).__next__
        behind.writer._now_ms = itertools.repeat(0).__next__
        await ahead.apply(pool("v4", "10.6.0.1-10.6.0.3"))
        await behind.view.freshen()
        for n in range(4):
            await ahead.add(pod(f"a-{n}"))
            await ahead.delete(pod(f"a-{n}"))
            await behind.add(pod(f"b-{n}"))
            await behind.delete(pod(f"b-{n}"))

        events = await ahead.log()
        kinds = [type(one.event) for one in events[1:]]
        assert kinds == [AddressesClaimed, AddressesReleased] * 8
        assert [one.position for one in events] == sorted(one.position for one in events)
        assert not (await check_everything(ahead)).claims


async def test_the_cool_down_ends_by_the_clock_of_the_store() -> None:
    now = [0.0]
    store = MemoryStore(lambda: now[0])
    async with NodeHarness(store) as node:
        agent_clock = itertools.count(0, -1_000.0)
        node.cooldown = CoolDown(store, 30, monotonic=agent_clock.__next__)
        node.releaser._cooldown = node.cooldown
        await node.apply(pool("v4", "10.6.0.1-10.6.0.2"))
        first = addresses(await node.add(pod("web-0")))
        await node.delete(pod("web-0"))

        while_it_rests = addresses(await node.add(pod("web-1")))
        await node.delete(pod("web-1"))
        now[0] += 31 + LEASE_SHARED_S
        store.expire()
        rested = await node.add(pod("web-0"))

        assert while_it_rests.isdisjoint(first)
        assert addresses(rested) == first
        assert rested.tries == 1


async def test_a_writer_with_a_stopped_clock_writes_distinct_event_ids() -> None:
    store = MemoryStore()
    async with NodeHarness(store) as node:
        assert isinstance(node.writer, Writer)
        node.writer._now_ms = itertools.repeat(0).__next__
        await node.apply(pool("v4", "10.6.0.1-10.6.0.9"))
        for n in range(5):
            await node.add(pod(f"web-{n}"))

        ids = [one.event_id for one in await node.log()]
        assert len(set(ids)) == len(ids) == 6

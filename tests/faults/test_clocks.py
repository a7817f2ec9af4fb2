"""Clocks that jump do not change events or their order."""

from __future__ import annotations

import itertools

from core.allocation.cooldown import LEASE_SHARED_S, CoolDown
from core.domain.events import AddressesClaimed, AddressesReleased
from core.eventstore.memory_store import MemoryStore
from core.eventstore.writer import Writer
from tests.support.node_harness import NodeHarness, addresses, check_everything, pod, pool

DAY_MS = 86_400_000
PODS_PER_NODE = 4
COOL_DOWN_S = 30


async def test_wall_clocks_that_differ_by_days_change_neither_order_nor_invariants() -> None:
    store = MemoryStore()
    async with NodeHarness(store, "node-a") as ahead, NodeHarness(store, "node-b") as behind:
        # The clock of node-a goes back a day at each reading.
        ahead.writer._now_ms = itertools.count(10 * DAY_MS, -DAY_MS).__next__
        behind.writer._now_ms = itertools.repeat(0).__next__
        await ahead.apply(pool("v4", "10.6.0.1-10.6.0.3"))
        await behind.view.freshen()
        for number in range(PODS_PER_NODE):
            await ahead.add(pod(f"a-{number}"))
            await ahead.delete(pod(f"a-{number}"))
            await behind.add(pod(f"b-{number}"))
            await behind.delete(pod(f"b-{number}"))

        pool_event, *pod_events = await ahead.log()
        kinds = [type(recorded.event) for recorded in pod_events]
        assert kinds == [AddressesClaimed, AddressesReleased] * (2 * PODS_PER_NODE)
        positions = [recorded.position for recorded in (pool_event, *pod_events)]
        assert positions == sorted(positions)
        assert not (await check_everything(ahead)).claims


async def test_the_cool_down_ends_by_the_clock_of_the_store() -> None:
    now = [0.0]
    store = MemoryStore(lambda: now[0])
    async with NodeHarness(store) as node:
        agent_clock = itertools.count(0, -1_000.0)
        node.cooldown = CoolDown(store, COOL_DOWN_S, monotonic=agent_clock.__next__)
        node.releaser._cooldown = node.cooldown
        await node.apply(pool("v4", "10.6.0.1-10.6.0.2"))
        first = addresses(await node.add(pod("web-0")))
        await node.delete(pod("web-0"))

        during_the_cool_down = addresses(await node.add(pod("web-1")))
        await node.delete(pod("web-1"))
        # Releases within LEASE_SHARED_S share a lease, so a lease outlasts the cool-down.
        now[0] += COOL_DOWN_S + 1 + LEASE_SHARED_S
        store.expire()
        after_the_cool_down = await node.add(pod("web-0"))

        assert during_the_cool_down.isdisjoint(first)
        assert addresses(after_the_cool_down) == first
        assert after_the_cool_down.tries == 1


async def test_a_writer_with_a_stopped_clock_writes_distinct_event_ids() -> None:
    store = MemoryStore()
    async with NodeHarness(store) as node:
        assert isinstance(node.writer, Writer)
        node.writer._now_ms = itertools.repeat(0).__next__
        await node.apply(pool("v4", "10.6.0.1-10.6.0.9"))
        for number in range(5):
            await node.add(pod(f"web-{number}"))

        ids = [recorded.event_id for recorded in await node.log()]
        assert len(set(ids)) == len(ids) == 1 + 5

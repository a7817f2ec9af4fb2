"""In a nearly full pool an agent chooses among the addresses that the pool's view calls free."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from core.errors import AddressesUsedOut
from core.projections.publisher import Publisher
from core.service.allocator import AllocatorSettings
from core.store.kv import Get, Put, ReadResult, Unchanged
from core.store.memory import MemoryStore
from tests.projections.conftest import following
from tests.support.nodes import Node, addresses, check_everything, pod, pool

SIZE = 200
FREE = 6
POOL = pool("blue", f"10.6.0.1-10.6.0.{SIZE}")


class CountingStore(MemoryStore):
    """Counts what is asked of it."""

    def __init__(self) -> None:
        super().__init__()
        self.reads = 0

    async def read(self, gets: Sequence[Get], *, revision: int = 0) -> ReadResult:
        self.reads += 1
        return await super().read(gets, revision=revision)


async def filled(store: MemoryStore, node: Node, count: int) -> None:
    """Claim ``count`` addresses and publish the view of the pool."""
    await node.apply(POOL)
    await asyncio.gather(*(node.add(pod(f"old-{number}")) for number in range(count)))
    await publish(node)


async def publish(node: Node) -> None:
    async with following(node) as one:
        publisher = Publisher(node.store, node.keys, one.projector, "c-1")
        await publisher.adopt()
        await publisher.publish(Unchanged(node.keys.lease("controller"), 0))


async def test_after_one_miss_the_rest_is_claimed_without_a_read() -> None:
    store = CountingStore()
    async with Node(store, "node-b") as other, Node(store, "node-a") as node:
        await filled(store, other, SIZE - FREE)
        missed = await node.add(pod("web-0"))
        store.reads = 0
        added = [await node.add(pod(f"web-{number}")) for number in range(1, FREE)]

        assert missed.tries >= 1
        assert store.reads <= 1, "the view may be read once more"
        assert sum(one.tries for one in added) <= FREE
        assert len({address for one in added for address in addresses(one)}) == FREE - 1
        await check_everything(node)


async def test_a_hint_that_is_out_of_date_costs_tries_and_nothing_else() -> None:
    store = CountingStore()
    async with Node(store, "node-b") as other, Node(store, "node-a") as node:
        await filled(store, other, SIZE - FREE)
        await node.add(pod("web-0"))
        for number in range(1, FREE - 1):
            await other.add(pod(f"theirs-{number}"))

        last = await node.add(pod("web-last"))
        with pytest.raises(AddressesUsedOut):
            await node.add(pod("web-too-many"))

        assert len(addresses(last)) == 1
        await check_everything(node)


async def test_a_view_that_says_full_is_no_reason_to_fail() -> None:
    store = CountingStore()
    async with Node(store, "node-b", cool_down_s=0) as other, Node(store, "node-a") as node:
        await filled(store, other, SIZE)
        await other.delete(pod("old-7"))

        found = await node.add(pod("web-0"))

        assert addresses(found)
        await check_everything(node)


async def test_what_this_node_releases_it_gives_to_the_next_pod_at_once() -> None:
    store = CountingStore()
    async with Node(store, "node-a", cool_down_s=0) as node:
        await node.apply(POOL)
        await asyncio.gather(*(node.add(pod(f"old-{number}")) for number in range(SIZE)))
        await node.delete(pod("old-1"))
        await node.add(pod("first"))  # misses, and finds the last one by reading
        await node.delete(pod("old-2"))
        store.reads = 0

        second = await node.add(pod("second"))

        assert (second.tries, store.reads) == (1, 0)
        await check_everything(node)


async def test_eight_nodes_share_the_last_addresses_without_failing() -> None:
    store = CountingStore()
    nodes = [Node(store, f"node-{number}") for number in range(8)]
    async with Node(store, "node-x") as other:
        await filled(store, other, SIZE - 40)
        for one in nodes:
            await one.__aenter__()
        adds = [nodes[number % 8].add(pod(f"web-{number}")) for number in range(40)]
        added = await asyncio.gather(*adds)
        for one in nodes:
            await one.__aexit__(None, None, None)

        assert len({address for one in added for address in addresses(one)}) == 40
        await check_everything(other)


async def test_in_sequential_order_the_lowest_free_address_is_taken_whatever_a_view_says() -> None:
    store = CountingStore()
    sequential = AllocatorSettings(order="sequential")
    async with Node(store, "node-a", settings=sequential, cool_down_s=0) as node:
        await filled(store, node, SIZE - FREE)
        await node.delete(pod("old-3"))

        added = [addresses(await node.add(pod(f"web-{number}"))) for number in range(3)]

        assert added == [{"10.6.0.4"}, {"10.6.0.195"}, {"10.6.0.196"}]


async def test_a_view_that_cannot_be_read_is_passed_over() -> None:
    store = CountingStore()
    async with Node(store, "node-b") as other, Node(store, "node-a") as node:
        await filled(store, other, SIZE - FREE)
        await store.commit([], [Put(node.keys.pool_view("blue"), b"\xc1")])

        added = [await node.add(pod(f"web-{number}")) for number in range(FREE)]

        assert len({address for one in added for address in addresses(one)}) == FREE
        assert node.view.faults.get("view/pool/blue") is not None

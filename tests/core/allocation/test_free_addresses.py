"""In a nearly full pool, requests share one read and take different free addresses.

``FreeAddresses`` keeps a list of free addresses for each nearly full or contended pool.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from core.allocation import free_addresses
from core.allocation.address_finder import Finder, FreeAddress
from core.allocation.allocator import AllocatorSettings
from core.allocation.free_addresses import CONTENDED_PICKS, LOSSES_MIN, FreeAddresses
from core.domain.addresses.address_set import AddressSet
from core.domain.events import Release
from core.errors import AddressesUsedOut
from core.eventstore.keys import Keys
from core.eventstore.kv import Get, Put, ReadResult
from core.eventstore.memory_store import MemoryStore
from tests.support.node_harness import (
    NodeHarness,
    addresses,
    check_everything,
    gather_outcomes,
    pod,
    pool,
)

POOL_SIZE = 200
FREE_COUNT = 6
POOL = pool("blue", f"10.6.0.1-10.6.0.{POOL_SIZE}")
BASE = 10 << 24
USABLE = AddressSet(4, ((BASE, BASE + 99),))
"""The addresses 10.0.0.0 to 10.0.0.99. Offset 7 means 10.0.0.7."""
KEYS = Keys("test")
NODES = 8


class CountingStore(MemoryStore):
    """A store that counts reads, and delays them until ``gate`` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.reads = 0
        self.gate = asyncio.Event()
        self.gate.set()

    async def read(self, gets: Sequence[Get], *, revision: int = 0) -> ReadResult:
        self.reads += 1
        await self.gate.wait()
        return await super().read(gets, revision=revision)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


async def fill_pool(node: NodeHarness, count: int) -> None:
    await node.apply(POOL)
    await asyncio.gather(*(node.add(pod(f"old-{number}")) for number in range(count)))


@asynccontextmanager
async def nodes(store: MemoryStore, *, cool_down_s: int = 30) -> AsyncIterator[list[NodeHarness]]:
    async with AsyncExitStack() as stack:
        harnesses = [
            NodeHarness(store, f"node-{number}", cool_down_s=cool_down_s) for number in range(NODES)
        ]
        for node in harnesses:
            await stack.enter_async_context(node)
        await harnesses[0].apply(POOL)
        for node in harnesses:
            await node.view.freshen()
        yield harnesses


async def test_after_a_lost_race_free_addresses_are_claimed_without_a_read() -> None:
    store = CountingStore()
    async with NodeHarness(store, "node-b") as other_node, NodeHarness(store, "node-a") as node:
        await fill_pool(other_node, POOL_SIZE - FREE_COUNT)
        await node.view.freshen()
        first = await node.add(pod("web-0"))
        assert first.tries == 2, "the first Pod must lose one race"
        store.reads = 0
        added = [await node.add(pod(f"web-{number}")) for number in range(1, FREE_COUNT)]

        assert store.reads == 0
        assert [outcome.tries for outcome in added] == [1] * (FREE_COUNT - 1)
        assert (
            len({address for outcome in added for address in addresses(outcome)}) == FREE_COUNT - 1
        )
        await check_everything(node)


async def test_a_stale_list_costs_at_most_two_tries_and_one_read() -> None:
    store = CountingStore()
    async with NodeHarness(store, "node-b") as other_node, NodeHarness(store, "node-a") as node:
        await fill_pool(other_node, POOL_SIZE - FREE_COUNT)
        await node.view.freshen()
        await node.add(pod("web-0"))
        adds_of_other_node = [
            await other_node.add(pod(f"theirs-{number}")) for number in range(FREE_COUNT - 2)
        ]
        store.reads = 0

        last = await node.add(pod("web-last"))

        assert len(adds_of_other_node) == FREE_COUNT - 2
        assert last.tries <= 2
        assert store.reads <= 1
        with pytest.raises(AddressesUsedOut):
            await node.add(pod("web-too-many"))
        await check_everything(node)


async def test_the_next_pod_gets_a_released_address_without_a_read() -> None:
    store = CountingStore()
    async with NodeHarness(store, "node-a", cool_down_s=0) as node:
        await fill_pool(node, POOL_SIZE)
        await node.delete(pod("old-1"))
        await node.add(pod("first"))  # reads the last free address
        await node.delete(pod("old-2"))
        store.reads = 0

        second = await node.add(pod("second"))

        assert (second.tries, store.reads) == (1, 0)
        await check_everything(node)


async def test_a_pod_gets_an_address_that_another_node_released() -> None:
    async with (
        NodeHarness(MemoryStore(), "node-b", cool_down_s=0) as other_node,
        NodeHarness(other_node.store, "node-a") as node,
    ):
        await fill_pool(other_node, POOL_SIZE)
        await node.view.freshen()
        with pytest.raises(AddressesUsedOut):
            await node.add(pod("too-many"))
        await other_node.delete(pod("old-7"))

        assert addresses(await node.add(pod("web-0")))
        await check_everything(node)


async def test_eight_nodes_can_claim_all_addresses_at_the_same_time() -> None:
    async with nodes(MemoryStore()) as all_nodes:
        adds = [all_nodes[number % NODES].add(pod(f"web-{number}")) for number in range(POOL_SIZE)]
        added = await asyncio.gather(*adds)

        assert len({address for outcome in added for address in addresses(outcome)}) == POOL_SIZE
        await check_everything(all_nodes[0])


async def test_exactly_one_add_is_refused_if_adds_exceed_the_addresses_by_one() -> None:
    async with nodes(MemoryStore()) as all_nodes:
        adds = [
            all_nodes[number % NODES].add(pod(f"web-{number}")) for number in range(POOL_SIZE + 1)
        ]
        answers = await gather_outcomes(*adds)

        refused = [answer for answer in answers if isinstance(answer, Exception)]
        assert [type(answer) for answer in refused] == [AddressesUsedOut]
        await check_everything(all_nodes[0])


@pytest.mark.parametrize("cool_down_s", [0, 30])
async def test_eight_nodes_can_replace_all_pods_of_a_full_pool_at_once(
    cool_down_s: int,
) -> None:
    async with nodes(MemoryStore(), cool_down_s=cool_down_s) as all_nodes:
        owners = [(all_nodes[number % NODES], number) for number in range(POOL_SIZE)]
        await asyncio.gather(*(node.add(pod(f"old-{number}")) for node, number in owners))

        async def replace(node: NodeHarness, number: int) -> set[str]:
            await node.delete(pod(f"old-{number}"))
            return addresses(await node.add(pod(f"new-{number}")))

        new = await asyncio.gather(*(replace(*owner) for owner in owners))

        assert len(set().union(*new)) == POOL_SIZE
        await check_everything(all_nodes[0])


async def test_sequential_order_takes_the_lowest_free_address() -> None:
    sequential = AllocatorSettings(order="sequential")
    async with NodeHarness(MemoryStore(), settings=sequential, cool_down_s=0) as node:
        await fill_pool(node, POOL_SIZE - FREE_COUNT)
        await node.delete(pod("old-3"))

        added = [addresses(await node.add(pod(f"web-{number}"))) for number in range(3)]

        # old-3 had 10.6.0.4; 10.6.0.194 is the highest claim.
        assert added == [{"10.6.0.4"}, {"10.6.0.195"}, {"10.6.0.196"}]


async def lists_of_node_a(
    store: MemoryStore, free: set[int], clock: Clock | None = None
) -> FreeAddresses:
    """Claim all offsets below 100 except ``free``; return node-a's lists of free addresses."""
    claimed = [Put(KEYS.ip(4, BASE + offset), b"") for offset in range(100) if offset not in free]
    await store.commit([], claimed)
    return FreeAddresses(Finder(store, KEYS), "node-a", clock or Clock())


async def test_requests_that_wait_share_the_next_read() -> None:
    store = CountingStore()
    free_lists = await lists_of_node_a(store, {1, 2, 3, 4})
    store.gate.clear()

    def start_request() -> asyncio.Task[free_addresses.TakeResult]:
        return asyncio.create_task(free_lists.read_and_take("blue", USABLE, ()))

    async def until_reads(count: int) -> None:
        while store.reads < count:
            await asyncio.sleep(0)

    first_requests = [start_request() for _ in range(2)]  # share the first read
    await until_reads(1)
    later_requests = [start_request() for _ in range(2)]  # share the second read
    await asyncio.sleep(0)
    store.gate.set()
    await asyncio.gather(*first_requests, *later_requests)

    assert store.reads == 2
    first_addresses = [request.result().address for request in first_requests]
    assert len(set(first_addresses)) == 2


async def test_requests_with_different_usable_addresses_share_no_read() -> None:
    free_lists = await lists_of_node_a(MemoryStore(), {1, 50})
    narrow, wide = AddressSet(4, ((BASE, BASE + 9),)), USABLE
    await free_lists.read_and_take("blue", narrow, {BASE + 1})

    first, second = await asyncio.gather(
        free_lists.read_and_take("blue", narrow, {BASE + 1}),
        free_lists.read_and_take("blue", wide, ()),
    )

    assert first.address is None
    assert second.address is not None


async def test_an_address_of_a_list_is_taken_once() -> None:
    free_lists = await lists_of_node_a(MemoryStore(), {1, 2, 3})
    from_store = await free_lists.read_and_take("blue", USABLE, ())
    from_list = [free_lists.take("blue", USABLE, ()) for _ in range(3)]

    assert {from_store.address, *from_list} == {
        FreeAddress(BASE + offset) for offset in (1, 2, 3)
    } | {None}


async def test_unusable_addresses_of_a_list_are_not_taken() -> None:
    free_lists = await lists_of_node_a(MemoryStore(), {1, 2, 3})
    await free_lists.read_and_take("blue", USABLE, {BASE + 1, BASE + 2, BASE + 3})
    await free_lists.read_and_take("blue", USABLE, ())

    narrow = AddressSet(4, ((BASE + 50, BASE + 99),))
    assert free_lists.take("blue", narrow, ()) is None


async def test_a_list_older_than_a_lost_race_is_not_used() -> None:
    store = MemoryStore()
    free_lists = await lists_of_node_a(store, {1, 2, 3})
    await free_lists.read_and_take("blue", USABLE, ())
    read_revision = (await store.read([Get(b"x")])).revision

    free_lists.record_lost_race("blue", revision=read_revision, is_listed=True)
    assert free_lists.take("blue", USABLE, ()) is not None
    free_lists.record_lost_race("blue", revision=read_revision + 1, is_listed=True)
    assert free_lists.take("blue", USABLE, ()) is None


async def test_the_list_of_a_pool_is_used_for_a_while_after_several_lost_races() -> None:
    # ``count_pick`` returns whether a request must use the list.
    clock = Clock()
    free_lists = await lists_of_node_a(MemoryStore(), set(range(90)), clock)
    for _ in range(LOSSES_MIN - 1):
        free_lists.record_lost_race("blue", 1, is_listed=False)
    assert not free_lists.count_pick("blue")

    free_lists.record_lost_race("blue", 1, is_listed=False)
    assert free_lists.count_pick("blue")
    clock.now += 2 * free_addresses.CONTENDED_S
    assert not free_lists.count_pick("blue")

    free_lists.record_lost_race("blue", 1, is_listed=False)
    assert not free_lists.count_pick("blue"), "one later lost race is not enough"


async def test_the_list_of_a_pool_is_not_used_if_lost_races_are_rare() -> None:
    free_lists = await lists_of_node_a(MemoryStore(), set(range(90)))
    for _ in range(LOSSES_MIN):
        for _ in range(CONTENDED_PICKS):
            free_lists.count_pick("blue")
        free_lists.record_lost_race("blue", 1, is_listed=False)

    assert not free_lists.count_pick("blue")


async def test_an_address_in_cool_down_is_taken_only_after_a_read() -> None:
    store = MemoryStore()
    free_lists = await lists_of_node_a(store, set())
    for offset in (8, 7):
        await store.commit([], [Put(KEYS.cool_down(4, BASE + 200 + offset), b"")])
    usable = AddressSet(4, ((BASE, BASE + 99), (BASE + 207, BASE + 208)))

    result = await free_lists.read_and_take("blue", usable, ())

    assert result.address is not None
    assert result.address.value == BASE + 208  # longest in cool-down
    assert free_lists.take("blue", usable, ()) is None
    assert (await free_lists.read_and_take("blue", usable, ())).address is not None


async def test_the_number_of_lists_is_bounded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(free_addresses, "POOLS_MAX", 2)
    free_lists = await lists_of_node_a(MemoryStore(), {1, 2})
    for name in ("red", "green", "blue"):
        await free_lists.read_and_take(name, USABLE, ())

    # The oldest list, of pool red, was dropped.
    assert [free_lists.count_pick(name) for name in ("red", "green", "blue")] == [
        False,
        True,
        True,
    ]
    free_lists.add_released(Release("10.0.0.1", "red", holder="x", claim_revision=1))
    assert free_lists.take("red", USABLE, ()) is None

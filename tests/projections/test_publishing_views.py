"""Views reach etcd coalesced, and an older position never overwrites a newer one."""

from __future__ import annotations

import asyncio

import pytest

from core.domain.commands import DeletePool
from core.errors import LostRace
from core.projections.publisher import VIEWS_PER_WRITE_MAX, Publisher
from core.projections.views import CHECKPOINT, CHECKPOINTS, POOL_VIEW, PoolView
from core.store.kv import Delete, Get, Put, Unchanged
from tests.projections.conftest import Following, following
from tests.support.faulty_store import Fault, FaultyStore
from tests.support.nodes import Node, pod, pool

POOL = pool("blue", "10.6.0.10-10.6.0.19")


def fence(node: Node) -> Unchanged:
    """A fence that holds: nobody leads."""
    return Unchanged(node.keys.lease("controller"), 0)


def publisher(node: Node, one: Following) -> Publisher:
    return Publisher(node.store, node.keys, one.projector, "c-1", now_ms=lambda: 7)


async def stored(node: Node, name: str) -> PoolView | None:
    found = (await node.store.read([Get(node.keys.pool_view(name))])).ranges[0].kvs
    return POOL_VIEW.decode(found[0].value) if found else None


async def checkpoint(node: Node) -> int:
    found = (await node.store.read([Get(node.keys.meta(CHECKPOINT))])).ranges[0].kvs
    return CHECKPOINTS.decode(found[0].value).position if found else 0


async def test_a_view_says_what_is_free_and_the_checkpoint_how_far_it_goes(node: Node) -> None:
    await node.apply(POOL)
    await node.add(pod("web-0"))
    async with following(node) as one:
        one_publisher = publisher(node, one)
        await one_publisher.adopt()
        await one_publisher.publish(fence(node))
        position = one.projector.projection.position

    view = await stored(node, "blue")
    assert view is not None
    assert view.counts.free == 9
    assert view.complete
    assert await checkpoint(node) == position == view.position


async def test_nothing_new_is_not_written_again(node: Node) -> None:
    await node.apply(POOL)
    async with following(node) as one:
        first = publisher(node, one)
        await first.adopt()
        await first.publish(fence(node))
        before = (await node.truth()).position
        second = publisher(node, one)
        await second.adopt()
        await second.publish(fence(node))

    assert (await node.truth()).position == before
    assert second.published == 0


async def test_the_view_of_a_deleted_pool_goes_with_it(node: Node) -> None:
    await node.apply(POOL)
    async with following(node) as one:
        one_publisher = publisher(node, one)
        await one_publisher.adopt()
        await one_publisher.publish(fence(node))
        await node.apply(DeletePool("blue"))
        await one.level_with(node)
        await one_publisher.publish(fence(node))

    assert await stored(node, "blue") is None


async def test_an_older_position_never_overwrites_a_newer_one(node: Node) -> None:
    await node.apply(POOL)
    async with following(node) as one:
        late = publisher(node, one)
        await late.adopt()
        view = one.projector.projection.view("blue")
        assert view is not None
        newer = view._replace(position=view.position + 1000)
        key = node.keys.pool_view("blue")
        await node.store.commit([], [Put(key, POOL_VIEW.encode(newer))])
        await node.add(pod("web-0"))
        await one.level_with(node)
        await late.publish(fence(node))
        await late.publish(fence(node))

        assert await stored(node, "blue") == newer


async def test_a_view_that_vanished_is_written_again(node: Node) -> None:
    await node.apply(POOL)
    async with following(node) as one:
        one_publisher = publisher(node, one)
        await one_publisher.adopt()
        await one_publisher.publish(fence(node))
        await node.store.commit([], [Delete(*node.keys.room("view", "pool"))])
        await node.add(pod("web-0"))
        await one.level_with(node)
        await one_publisher.publish(fence(node))
        await one_publisher.publish(fence(node))

    view = await stored(node, "blue")
    assert view is not None
    assert view.counts.claimed == 1


async def test_who_lost_the_lead_writes_nothing(node: Node) -> None:
    await node.apply(POOL)
    async with following(node) as one:
        one_publisher = publisher(node, one)
        await one_publisher.adopt()
        old = fence(node)
        await node.store.commit([], [Put(node.keys.lease("controller"), b"somebody else")])
        with pytest.raises(LostRace, match="the lead was lost"):
            await one_publisher.publish(old)

    assert await stored(node, "blue") is None
    assert await checkpoint(node) == 0


@pytest.mark.parametrize("fault", [Fault.ANSWER_LOST, Fault.REQUEST_LOST])
async def test_a_lost_answer_is_read_back_and_the_next_time_is_right(
    node: Node, fault: Fault
) -> None:
    await node.apply(POOL)
    async with following(node) as one:
        store = FaultyStore(node.store)
        shaken = Publisher(store, node.keys, one.projector, "c-1")
        await shaken.adopt()
        store.fail_next_commits(fault)
        await shaken.publish(fence(node))
        await shaken.publish(fence(node))
        view = one.projector.projection.view("blue")

    assert view is not None
    assert await stored(node, "blue") == view
    assert await checkpoint(node) == view.position


async def test_many_pools_go_in_several_transactions(node: Node) -> None:
    names = [f"pool-{number}" for number in range(VIEWS_PER_WRITE_MAX + 5)]
    await node.apply(*(pool(name, f"10.6.{i}.1") for i, name in enumerate(names)))
    async with following(node) as one:
        one_publisher = publisher(node, one)
        await one_publisher.adopt()
        await one_publisher.publish(fence(node))

    for name in names:
        assert await stored(node, name) is not None


async def test_changes_between_two_rounds_are_one_write(node: Node) -> None:
    await node.apply(POOL)
    async with following(node) as one:
        calm = Publisher(node.store, node.keys, one.projector, "c-1", period_s=3600)
        running = asyncio.create_task(calm.run(fence(node)))
        while not await checkpoint(node):
            await asyncio.sleep(0)
        for number in range(5):
            await node.add(pod(f"web-{number}"))
        await one.level_with(node)
        view = await stored(node, "blue")
        running.cancel()

    assert calm.published == 1
    assert view is not None
    assert view.counts.claimed == 0

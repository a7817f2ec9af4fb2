"""The publisher stores the position of the projection in etcd as a checkpoint.

The publisher never overwrites a newer checkpoint of another leader.
"""

from __future__ import annotations

import asyncio

import pytest

from core.errors import LostRace
from core.eventstore.kv import Delete, Get, Put, Unchanged
from core.projections.publisher import CHECKPOINT_CODEC, CHECKPOINT_NAME, Checkpoint, Publisher
from tests.core.projections.running_projector import RunningProjector, run_new_projector
from tests.support.faulty_store import Fault, FaultyStore
from tests.support.node_harness import NodeHarness, pod, pool

POOL = pool("blue", "10.6.0.10-10.6.0.19")


def fence(node: NodeHarness) -> Unchanged:
    """The guard of the publisher's transactions: no process holds the leader's lease key."""
    return Unchanged(node.keys.lease("controller"), mod_revision=0)


def publisher(node: NodeHarness, running: RunningProjector) -> Publisher:
    return Publisher(node.store, node.keys, running.projector, "c-1", now_ms=lambda: 7)


async def stored_checkpoint(node: NodeHarness) -> Checkpoint | None:
    kv = (await node.store.read([Get(node.keys.meta(CHECKPOINT_NAME))])).ranges[0].first
    return CHECKPOINT_CODEC.decode(kv.value) if kv else None


async def test_the_checkpoint_has_the_position_of_the_projection(node: NodeHarness) -> None:
    await node.apply(POOL)
    await node.add(pod("web-0"))
    async with run_new_projector(node) as running:
        running_publisher = publisher(node, running)
        await running_publisher.adopt(fence(node))
        assert running_publisher.unpublished == running.projector.events
        await running_publisher.publish(fence(node))

    assert await stored_checkpoint(node) == Checkpoint(
        position=running.projector.projection.position, at_ms=7, writer="c-1"
    )
    assert running_publisher.unpublished == 0


async def test_a_checkpoint_is_not_written_again_without_a_change(node: NodeHarness) -> None:
    await node.apply(POOL)
    async with run_new_projector(node) as running:
        first_publisher = publisher(node, running)
        await first_publisher.adopt(fence(node))
        await first_publisher.publish(fence(node))
        before = (await node.read_ledger()).position
        second_publisher = publisher(node, running)
        await second_publisher.adopt(fence(node))
        await second_publisher.publish(fence(node))

    assert (await node.read_ledger()).position == before
    assert second_publisher.published == 0


async def test_an_older_position_never_overwrites_a_newer_position(node: NodeHarness) -> None:
    await node.apply(POOL)
    async with run_new_projector(node) as running:
        outdated_publisher = publisher(node, running)
        await outdated_publisher.adopt(fence(node))
        newer = Checkpoint(
            position=running.projector.projection.position + 1000, at_ms=5, writer="c-2"
        )
        key = node.keys.meta(CHECKPOINT_NAME)
        await node.store.commit([], [Put(key, CHECKPOINT_CODEC.encode(newer))])
        await node.add(pod("web-0"))
        await running.wait_until_current(node)
        for _ in range(2):  # the first publication reads the newer checkpoint
            await outdated_publisher.publish(fence(node))

    assert await stored_checkpoint(node) == newer


async def test_a_deleted_checkpoint_is_written_again(node: NodeHarness) -> None:
    await node.apply(POOL)
    async with run_new_projector(node) as running:
        running_publisher = publisher(node, running)
        await running_publisher.adopt(fence(node))
        await running_publisher.publish(fence(node))
        await node.store.commit([], [Delete(node.keys.meta(CHECKPOINT_NAME))])
        await node.add(pod("web-0"))
        await running.wait_until_current(node)
        for _ in range(2):  # the first publication finds that the key was deleted
            await running_publisher.publish(fence(node))

    assert await stored_checkpoint(node) is not None


async def test_adopt_deletes_views_of_older_versions(node: NodeHarness) -> None:
    outdated_view = node.keys.prefix("view", "pool") + b"blue"
    used_view = node.keys.application_view("Deployment/shop/web")  # used by automatic pools
    await node.store.commit([], [Put(outdated_view, b""), Put(used_view, b"")])
    async with run_new_projector(node) as running:
        running_publisher = publisher(node, running)
        await running_publisher.adopt(fence(node))

    range_of_outdated_view, range_of_used_view = (
        await node.store.read([Get(outdated_view), Get(used_view)])
    ).ranges
    assert (range_of_outdated_view.count, range_of_used_view.count) == (0, 1)


async def test_a_publisher_that_has_lost_the_lead_writes_nothing(node: NodeHarness) -> None:
    await node.apply(POOL)
    async with run_new_projector(node) as running:
        running_publisher = publisher(node, running)
        await running_publisher.adopt(fence(node))
        lost_fence = fence(node)
        await node.store.commit([], [Put(node.keys.lease("controller"), b"another process")])
        with pytest.raises(LostRace, match="this process is no longer the leader"):
            await running_publisher.publish(lost_fence)

    assert await stored_checkpoint(node) is None


@pytest.mark.parametrize("fault", [Fault.ANSWER_LOST, Fault.REQUEST_LOST])
async def test_the_checkpoint_is_correct_after_a_lost_request_or_answer(
    node: NodeHarness, fault: Fault
) -> None:
    await node.apply(POOL)
    async with run_new_projector(node) as running:
        faulty_store = FaultyStore(node.store)
        running_publisher = Publisher(faulty_store, node.keys, running.projector, "c-1")
        await running_publisher.adopt(fence(node))
        faulty_store.fail_next_commits(fault)
        for _ in range(2):  # the first publication meets the fault
            await running_publisher.publish(fence(node))
        position = running.projector.projection.position

    checkpoint = await stored_checkpoint(node)
    assert checkpoint is not None
    assert checkpoint.position == position


async def test_changes_are_not_published_before_the_period_ends(node: NodeHarness) -> None:
    await node.apply(POOL)
    async with run_new_projector(node) as running:
        slow_publisher = Publisher(node.store, node.keys, running.projector, "c-1", period_s=3600)
        position = running.projector.projection.position
        publishing = asyncio.create_task(slow_publisher.run(fence(node)))
        while await stored_checkpoint(node) is None:
            await asyncio.sleep(0)
        for number in range(5):
            await node.add(pod(f"web-{number}"))
        await running.wait_until_current(node)
        checkpoint = await stored_checkpoint(node)
        publishing.cancel()

    assert slow_publisher.published == 1
    assert checkpoint is not None
    assert checkpoint.position == position

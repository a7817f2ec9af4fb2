"""``Projector.follow`` reports the names of changed objects, and all names after a rebuild."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from core.domain.configuration.commands import ApplySubnet, DeletePool
from core.domain.model import Subnet
from core.eventstore.memory_store import MemoryStore
from core.projections.change_buffer import ChangeBuffer
from core.projections.projector import Projector
from tests.support.node_harness import NodeHarness, pod, pool


@pytest.fixture
async def node() -> AsyncIterator[NodeHarness]:
    async with NodeHarness(MemoryStore(), cool_down_s=0) as node:
        yield node


@pytest.fixture
async def projector(node: NodeHarness) -> AsyncIterator[Projector]:
    projector = Projector(node.store, node.keys)
    running = asyncio.ensure_future(projector.run())
    await projector.wait_for(lambda: projector.ready)
    yield projector
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running


async def take_after_whole_log(
    node: NodeHarness, projector: Projector, changes: ChangeBuffer
) -> ChangeBuffer:
    last_position = max(recorded.position for recorded in await node.log())
    await projector.wait_for(lambda: projector.projection.position >= last_position)
    return changes.take()


async def test_follow_reports_each_changed_object_once(
    node: NodeHarness, projector: Projector
) -> None:
    with projector.follow() as changes:
        await node.apply(pool("blue", "10.6.0.10"), pool("green", "10.6.0.20", default=False))
        assert (await take_after_whole_log(node, projector, changes)).pools == {"blue", "green"}

        await node.add(pod("web-0"))
        changes_of_add = await take_after_whole_log(node, projector, changes)

        assert (changes_of_add.pools, changes_of_add.endpoints) == ({"blue"}, {("shop", "web-0")})
        assert not changes.take().pools


async def test_a_change_of_a_pool_is_reported_for_its_subnet_too(
    node: NodeHarness, projector: Projector
) -> None:
    await node.apply(ApplySubnet(Subnet("wide", 4, "10.6.0.0/16", ("10.6.0.0-10.6.0.99",))))
    with projector.follow() as changes:
        await take_after_whole_log(node, projector, changes)

        await node.apply(pool("blue", "10.6.0.10"))
        assert (await take_after_whole_log(node, projector, changes)).subnets == {"wide"}
        await node.apply(DeletePool("blue"))

        assert (await take_after_whole_log(node, projector, changes)).subnets == {"wide"}


async def test_a_new_buffer_and_a_rebuilt_projection_report_all_objects(
    node: NodeHarness, projector: Projector
) -> None:
    await node.apply(pool("blue", "10.6.0.10"))
    await node.add(pod("web-0"))
    with projector.follow() as changes:
        from_new_buffer = await take_after_whole_log(node, projector, changes)
        await projector._load()  # rebuilds the projection

        from_rebuilt_projection = changes.take()

    for reported in (from_new_buffer, from_rebuilt_projection):
        assert (reported.pools, reported.endpoints) == ({"blue"}, {("shop", "web-0")})


async def test_a_buffer_gets_no_changes_after_its_block(
    node: NodeHarness, projector: Projector
) -> None:
    with projector.follow() as changes:
        pass
    await node.apply(pool("blue", "10.6.0.10"))

    assert not (await take_after_whole_log(node, projector, changes)).pools


async def test_pools_are_reported_when_a_new_pod_keeps_the_addresses(
    node: NodeHarness, projector: Projector
) -> None:
    """The status of each pool contains the UID of the Pod."""
    with projector.follow() as changes:
        await node.apply(pool("blue", "10.6.0.10"), pool("green", "fd00:6::10"))
        await node.add(pod("db-0", "uid-1", fixed="statefulset"))
        await take_after_whole_log(node, projector, changes)

        await node.add(pod("db-0", "uid-2", fixed="statefulset"))

        assert (await take_after_whole_log(node, projector, changes)).pools == {"blue", "green"}
        await node.add(pod("db-0", "uid-2", fixed="statefulset"), container="another")
        assert not (await take_after_whole_log(node, projector, changes)).pools

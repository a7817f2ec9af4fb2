"""Followers of a projection receive the changed names, across gaps and restarts."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from core.domain.configuration.commands import ApplySubnet, DeletePool
from core.domain.model import Subnet
from core.eventstore.memory import MemoryStore
from core.projections.change_buffer import ChangeBuffer
from core.projections.projector import Projector
from tests.support.node_harness import NodeHarness, pod, pool


@pytest.fixture
async def node() -> AsyncIterator[NodeHarness]:
    async with NodeHarness(MemoryStore(), cool_down_s=0) as one:
        yield one


@pytest.fixture
async def projector(node: NodeHarness) -> AsyncIterator[Projector]:
    one = Projector(node.store, node.keys)
    running = asyncio.ensure_future(one.run())
    await one.wait_for(lambda: one.ready)
    yield one
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running


async def told(node: NodeHarness, projector: Projector, news: ChangeBuffer) -> ChangeBuffer:
    """The changes when the projection has read the whole log."""
    (revision, _) = max((one.position, one.place) for one in await node.log())
    await projector.wait_for(lambda: projector.projection.position >= revision)
    return news.take()


async def test_names_of_what_an_event_touches_are_told_once(
    node: NodeHarness, projector: Projector
) -> None:
    with projector.follow() as news:
        await node.apply(pool("blue", "10.6.0.10"), pool("green", "10.6.0.20", default=False))
        assert (await told(node, projector, news)).pools == {"blue", "green"}

        await node.add(pod("web-0"))
        claimed = await told(node, projector, news)

        assert (claimed.pools, claimed.endpoints) == ({"blue"}, {("shop", "web-0")})
        assert not news.take().pools


async def test_a_subnet_is_told_of_with_its_pools(node: NodeHarness, projector: Projector) -> None:
    await node.apply(ApplySubnet(Subnet("wide", 4, "10.6.0.0/16", ("10.6.0.0-10.6.0.99",))))
    with projector.follow() as news:
        await told(node, projector, news)

        await node.apply(pool("blue", "10.6.0.10"))
        assert (await told(node, projector, news)).subnets == {"wide"}
        await node.apply(DeletePool("blue"))

        assert (await told(node, projector, news)).subnets == {"wide"}


async def test_a_new_follower_and_a_new_projection_begin_with_everything(
    node: NodeHarness, projector: Projector
) -> None:
    await node.apply(pool("blue", "10.6.0.10"))
    await node.add(pod("web-0"))
    with projector.follow() as news:
        begun = await told(node, projector, news)
        await projector._load()

        again = news.take()

    for one in (begun, again):
        assert (one.pools, one.endpoints) == ({"blue"}, {("shop", "web-0")})


async def test_who_follows_no_more_is_told_no_more(node: NodeHarness, projector: Projector) -> None:
    with projector.follow() as news:
        pass
    await node.apply(pool("blue", "10.6.0.10"))

    assert not (await told(node, projector, news)).pools


async def test_the_pools_of_a_replica_are_told_of_when_its_next_pod_takes_over(
    node: NodeHarness, projector: Projector
) -> None:
    """No claim changes, but the status of the pool contains the Pod's UID."""
    with projector.follow() as news:
        await node.apply(pool("blue", "10.6.0.10"), pool("green", "fd00:6::10"))
        await node.add(pod("db-0", "uid-1", fixed="statefulset"))
        await told(node, projector, news)

        await node.add(pod("db-0", "uid-2", fixed="statefulset"))

        assert (await told(node, projector, news)).pools == {"blue", "green"}
        await node.add(pod("db-0", "uid-2", fixed="statefulset"), container="another")
        assert not (await told(node, projector, news)).pools

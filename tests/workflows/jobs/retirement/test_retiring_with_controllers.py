"""Retirements on both stores, with controllers that die at any of their writes."""

from __future__ import annotations

import pytest

from core.domain.configuration.commands import Reinstate, RetirePool, RetireSubnet
from core.domain.events import PoolDeleted
from core.eventstore.kv import KeyValueStore
from core.eventstore.memory import MemoryStore
from tests.support.nodes import Node, pod
from tests.workflows.faults.killing import KillingStore, Moment
from tests.workflows.jobs.retirement.stage import blue, net, red
from tests.workflows.jobs.town import Town

WRITES_OF_A_RETIREMENT = 12
"""A host that lives writes about so often from its start to the pool's end."""


async def _is_gone(node: Node) -> bool:
    truth = await node.truth()
    return not truth.pools and not truth.subnets


async def test_a_pool_that_somebody_retired_goes_with_its_last_claim(store: KeyValueStore) -> None:
    async with Town(store) as town:
        await town.node.apply(blue())
        await town.node.add(pod("web-0"))
        await town.node.apply(RetirePool("blue"))
        await town.host("one")

        await town.until_found("retire/pool/blue", claims=1)
        await town.node.delete(pod("web-0"))
        await town.until(lambda: _is_gone(town.node))
        await town.check()


async def test_a_subnet_goes_with_its_pools(store: KeyValueStore) -> None:
    async with Town(store) as town:
        await town.node.apply(net())
        await town.node.apply(blue(), red())
        await town.node.add(pod("web-0"))
        await town.host("one")
        await town.host("two")
        await town.node.apply(RetireSubnet("net"))
        await town.until_open("retire/subnet/net")
        await town.node.delete(pod("web-0"))
        await town.until(lambda: _is_gone(town.node))
        await town.check()


async def test_a_cancelled_one_serves_again(store: KeyValueStore) -> None:
    async with Town(store) as town:
        await town.node.apply(blue())
        await town.node.add(pod("web-0"))
        await town.node.apply(RetirePool("blue"))
        await town.host("one")
        await town.until_found("retire/pool/blue", claims=1)
        await town.client.cancel("retire/pool/blue")

        async def is_serving() -> bool:
            return not (await town.node.truth()).pools["blue"].retiring

        await town.until(is_serving)
        await town.node.apply(Reinstate("pool", "blue"))
        await town.check()


@pytest.mark.parametrize("moment", Moment, ids=lambda moment: moment.name.lower())
@pytest.mark.parametrize("at", range(1, WRITES_OF_A_RETIREMENT + 1))
async def test_a_controller_killed_at_any_write_leaves_the_pool_to_the_next_one(
    at: int, moment: Moment
) -> None:
    async with Town(MemoryStore()) as town:
        await town.node.apply(blue())
        await town.node.add(pod("web-0"))
        await town.node.apply(RetirePool("blue"))
        killing = KillingStore(town.store, at, moment)
        await town.host("dying", killing)
        await town.until_open("retire/pool/blue")
        await town.node.delete(pod("web-0"))
        await town.bury_if_dead("dying", killing, lambda: _is_gone(town.node))
        await town.host("heir")
        await town.until(lambda: _is_gone(town.node))
        await town.check()
        deleted = [one for one in await town.node.log() if isinstance(one.event, PoolDeleted)]

    assert len(deleted) == 1

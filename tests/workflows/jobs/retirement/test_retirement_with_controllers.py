"""Retirements on both stores, with controllers that die at any of their writes."""

from __future__ import annotations

import pytest

from core.domain.configuration.commands import Reinstate, RetirePool, RetireSubnet
from core.domain.events import PoolDeleted
from core.eventstore.kv import KeyValueStore
from core.eventstore.memory import MemoryStore
from tests.support.node_harness import NodeHarness, pod
from tests.workflows.faults.killing import KillingStore, Moment
from tests.workflows.jobs.job_host_harness import JobHostHarness
from tests.workflows.jobs.retirement.retirement_harness import blue, net, red

WRITES_OF_A_RETIREMENT = 12
"""The approximate number of writes of a host until the pool is deleted."""


async def _is_gone(node: NodeHarness) -> bool:
    ledger = await node.read_ledger()
    return not ledger.pools and not ledger.subnets


async def test_a_pool_that_somebody_retired_goes_with_its_last_claim(store: KeyValueStore) -> None:
    async with JobHostHarness(store) as hosts:
        await hosts.node.apply(blue())
        await hosts.node.add(pod("web-0"))
        await hosts.node.apply(RetirePool("blue"))
        await hosts.host("one")

        await hosts.until_found("retire/pool/blue", claims=1)
        await hosts.node.delete(pod("web-0"))
        await hosts.until(lambda: _is_gone(hosts.node))
        await hosts.check()


async def test_a_subnet_goes_with_its_pools(store: KeyValueStore) -> None:
    async with JobHostHarness(store) as hosts:
        await hosts.node.apply(net())
        await hosts.node.apply(blue(), red())
        await hosts.node.add(pod("web-0"))
        await hosts.host("one")
        await hosts.host("two")
        await hosts.node.apply(RetireSubnet("net"))
        await hosts.until_open("retire/subnet/net")
        await hosts.node.delete(pod("web-0"))
        await hosts.until(lambda: _is_gone(hosts.node))
        await hosts.check()


async def test_a_cancelled_one_serves_again(store: KeyValueStore) -> None:
    async with JobHostHarness(store) as hosts:
        await hosts.node.apply(blue())
        await hosts.node.add(pod("web-0"))
        await hosts.node.apply(RetirePool("blue"))
        await hosts.host("one")
        await hosts.until_found("retire/pool/blue", claims=1)
        await hosts.client.cancel("retire/pool/blue")

        async def is_serving() -> bool:
            return not (await hosts.node.read_ledger()).pools["blue"].retiring

        await hosts.until(is_serving)
        await hosts.node.apply(Reinstate("pool", "blue"))
        await hosts.check()


@pytest.mark.parametrize("moment", Moment, ids=lambda moment: moment.name.lower())
@pytest.mark.parametrize("at", range(1, WRITES_OF_A_RETIREMENT + 1))
async def test_a_controller_killed_at_any_write_leaves_the_pool_to_the_next_one(
    at: int, moment: Moment
) -> None:
    async with JobHostHarness(MemoryStore()) as hosts:
        await hosts.node.apply(blue())
        await hosts.node.add(pod("web-0"))
        await hosts.node.apply(RetirePool("blue"))
        killing = KillingStore(hosts.store, at, moment)
        await hosts.host("dying", killing)
        await hosts.until_open("retire/pool/blue")
        await hosts.node.delete(pod("web-0"))
        await hosts.bury_if_dead("dying", killing, lambda: _is_gone(hosts.node))
        await hosts.host("heir")
        await hosts.until(lambda: _is_gone(hosts.node))
        await hosts.check()
        deleted = [one for one in await hosts.node.log() if isinstance(one.event, PoolDeleted)]

    assert len(deleted) == 1

"""Controllers run retirements, in memory and on etcd, also after a kill at any write."""

from __future__ import annotations

import pytest

from core.domain.configuration.commands import Reinstate, RetirePool, RetireSubnet
from core.domain.events import PoolDeleted
from core.eventstore.kv import KeyValueStore
from core.eventstore.memory_store import MemoryStore
from tests.support.node_harness import NodeHarness, pod
from tests.workflows.faults.killing import KillingStore, KillMoment
from tests.workflows.jobs.job_host_harness import JobHostHarness
from tests.workflows.jobs.retirement.retirement_harness import blue_pool, create_net, red_pool

WRITES_OF_A_RETIREMENT = 12
"""The approximate number of writes until the pool is deleted."""


async def _all_is_deleted(node: NodeHarness) -> bool:
    ledger = await node.read_ledger()
    return not ledger.pools and not ledger.subnets


async def test_a_retired_pool_is_deleted_after_the_last_claim_is_released(
    store: KeyValueStore,
) -> None:
    async with JobHostHarness(store) as hosts:
        await hosts.node.apply(blue_pool())
        await hosts.node.add(pod("web-0"))
        await hosts.node.apply(RetirePool("blue"))
        await hosts.start_controller("one")

        await hosts.until_status("retire/pool/blue", claims=1)
        await hosts.node.delete(pod("web-0"))
        await hosts.until(lambda: _all_is_deleted(hosts.node))
        await hosts.check()


async def test_a_retired_subnet_and_its_pools_are_deleted(store: KeyValueStore) -> None:
    async with JobHostHarness(store) as hosts:
        await hosts.node.apply(create_net())
        await hosts.node.apply(blue_pool(), red_pool())
        await hosts.node.add(pod("web-0"))
        await hosts.start_controller("one")
        await hosts.start_controller("two")
        await hosts.node.apply(RetireSubnet("net"))
        await hosts.until_open("retire/subnet/net")
        await hosts.node.delete(pod("web-0"))
        await hosts.until(lambda: _all_is_deleted(hosts.node))
        await hosts.check()


async def test_a_cancelled_retirement_reinstates_the_pool(store: KeyValueStore) -> None:
    async with JobHostHarness(store) as hosts:
        await hosts.node.apply(blue_pool())
        await hosts.node.add(pod("web-0"))
        await hosts.node.apply(RetirePool("blue"))
        await hosts.start_controller("one")
        await hosts.until_status("retire/pool/blue", claims=1)
        await hosts.client.cancel("retire/pool/blue")

        async def is_serving() -> bool:
            return not (await hosts.node.read_ledger()).pools["blue"].retiring

        await hosts.until(is_serving)
        await hosts.node.apply(Reinstate("pool", "blue"))  # a second reinstatement is allowed
        await hosts.check()


@pytest.mark.parametrize("moment", KillMoment, ids=lambda moment: moment.name.lower())
@pytest.mark.parametrize("write_number", range(1, WRITES_OF_A_RETIREMENT + 1))
async def test_the_next_controller_finishes_a_retirement_after_a_kill_at_any_write(
    write_number: int, moment: KillMoment
) -> None:
    async with JobHostHarness(MemoryStore()) as hosts:
        await hosts.node.apply(blue_pool())
        await hosts.node.add(pod("web-0"))
        await hosts.node.apply(RetirePool("blue"))
        killing = KillingStore(hosts.store, write_number, moment)
        await hosts.start_controller("killed", killing)
        await hosts.until_open("retire/pool/blue")
        await hosts.node.delete(pod("web-0"))
        await hosts.remove_when_dead("killed", killing, lambda: _all_is_deleted(hosts.node))
        await hosts.start_controller("next")
        await hosts.until(lambda: _all_is_deleted(hosts.node))
        await hosts.check()
        deleted = [
            recorded
            for recorded in await hosts.node.log()
            if isinstance(recorded.event, PoolDeleted)
        ]

    assert len(deleted) == 1

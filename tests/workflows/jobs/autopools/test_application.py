"""Controllers on both stores: many applications, a leader that dies, and its successor."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from core.domain.configuration.commands import ApplySubnet, DropAutoPool
from core.domain.configuration.configuration_state import pool_addresses
from core.domain.events import PoolDefined
from core.domain.model import Subnet
from core.domain.subnets.subnet_model import addresses_of_pools
from core.errors import AddressesUsedOut, CallRejected, OutcomeUnknown, PoolPending
from core.eventstore.kv import KeyValueStore
from tests.support.counters import Counters
from tests.support.engine_harness import eventually, within
from tests.support.node_harness import check_everything
from tests.workflows.faults.killing import KillingStore, Moment
from tests.workflows.jobs.autopools.autopool_harness import AutoPoolHarness
from tests.workflows.jobs.autopools.scripted_applications import key_of
from workflows.engine.client.client import Client
from workflows.jobs.autopools.application import workflow_id

WIDE = Subnet("net", 4, "10.7.0.0/16", ("10.7.0.10-10.7.0.159",))
APPLICATIONS = 30
KILLED_APPLICATIONS = 8
TOGETHER = 100
SHORT_S = 0.3
OTHERS = 8
WAKES_TOO_MANY = 2
"""Scans for changes that were concurrent with a scan."""


@pytest.fixture
async def harness(store: KeyValueStore, cluster_name: str) -> AsyncIterator[AutoPoolHarness]:
    harness = AutoPoolHarness(store, cluster_name)
    await harness.open(controllers=0)
    await harness.node.apply(ApplySubnet(WIDE))
    yield harness
    await harness.close()
    await check_everything(harness.node)


async def test_thirty_applications_share_a_subnet_follow_their_sizes_and_leave_nothing(
    harness: AutoPoolHarness,
) -> None:
    """I00006 and I00008."""
    await harness.host()
    await harness.host()
    for number in range(APPLICATIONS):
        await harness.application(f"app-{number}", subnet="net", number="5")
    await harness.settle()
    ledger = await harness.node.read_ledger()
    assert {pool_addresses(pool).size for pool in ledger.pools.values()} == {5}
    assert addresses_of_pools(WIDE, ledger.pools.values()) == pool_addresses(WIDE)

    for number in range(APPLICATIONS):
        await harness.application(f"app-{number}", subnet="net", number="3" if number % 2 else "1")
    await harness.settle()
    pools = (await harness.node.read_ledger()).pools.values()
    assert sum(pool_addresses(pool).size for pool in pools) == APPLICATIONS * 2

    for number in range(APPLICATIONS):
        await harness.remove(f"app-{number}")
    await harness.settle()
    assert (await harness.node.read_ledger()).pools == {}


async def test_of_a_hundred_pods_that_come_before_their_pool_all_are_served_by_the_one_pool(
    harness: AutoPoolHarness,
) -> None:
    await harness.host()
    await harness.application("web", size=str(TOGETHER), subnet="net")

    answers = await asyncio.gather(
        *(harness.pod(f"web-{number}", of="web") for number in range(TOGETHER))
    )

    assert len(set(answers)) == TOGETHER
    made = [one.event for one in await harness.node.log() if isinstance(one.event, PoolDefined)]
    assert len(made) == 1


async def test_an_add_whose_pool_is_there_needs_no_controller(harness: AutoPoolHarness) -> None:
    host = await harness.host()
    await harness.application("web", size="2", subnet="net")
    await harness.settle()
    await harness.bury(host)

    assert await harness.pod("web-0", of="web") == "has 10.7.0.10"
    assert harness.waits == 0


async def test_an_add_without_a_controller_says_that_nobody_has_looked(
    harness: AutoPoolHarness,
) -> None:
    await harness.application("web", size="1", subnet="net")
    pod = harness.pod_facts("web-0", "web")

    with pytest.raises(PoolPending) as caught:
        await harness.add(pod, wait_s=SHORT_S)

    assert "no controller has processed the pool request" in caught.value.message
    assert "orbctl status" in caught.value.remedy


async def test_a_need_is_heard_by_a_controller_that_starts_later(harness: AutoPoolHarness) -> None:
    await harness.application("CloneSet/web", subnet="net", number="1")
    waiting = asyncio.ensure_future(harness.pod("web-0", of="CloneSet/web"))
    await eventually(lambda: _is_true(harness.waits == 1))

    await harness.host()

    assert await within(waiting) == "has 10.7.0.10"


async def test_an_add_that_finds_its_pool_full_waits_for_the_scale_that_makes_room(
    harness: AutoPoolHarness,
) -> None:
    await harness.host()
    await harness.application("web", size="1", subnet="net")
    await harness.pod("web-0", of="web")
    with pytest.raises(AddressesUsedOut) as caught:
        await harness.add(harness.pod_facts("web-1", "web"))
    assert "as many addresses as its application requests" in caught.value.message

    await harness.application("web", size="2", subnet="net")

    assert await harness.pod("web-1", of="web") == "has 10.7.0.11"


@pytest.mark.parametrize("moment", Moment)
@pytest.mark.parametrize("at", [6, 12, 20])
async def test_a_controller_killed_at_any_write_leaves_the_rest_to_another(
    harness: AutoPoolHarness, at: int, moment: Moment
) -> None:
    await harness.host()
    killing = KillingStore(harness.store, at, moment)
    dies = await harness.host(killing)
    for number in range(KILLED_APPLICATIONS):
        await harness.application(f"app-{number}", subnet="net", number="2")

    async def is_over() -> bool:
        return killing.died.is_set() or await harness.is_settled()

    await eventually(is_over)
    killing.died.set()
    await harness.bury(dies)
    await harness.settle()

    Counters.kills += 1
    pools = (await harness.node.read_ledger()).pools.values()
    assert sorted(pool_addresses(pool).size for pool in pools) == [2] * KILLED_APPLICATIONS
    made = [one.event for one in await harness.node.log() if isinstance(one.event, PoolDefined)]
    assert len(made) == KILLED_APPLICATIONS


async def test_what_happened_while_nobody_led_is_made_good_by_who_leads_next(
    harness: AutoPoolHarness,
) -> None:
    leader = await harness.host()
    await harness.application("stays", size="1", subnet="net")
    await harness.application("goes", size="1", subnet="net")
    await harness.settle()
    await harness.bury(leader)
    await harness.application("comes", size="1", subnet="net")
    await harness.application("stays", size="3", subnet="net")
    await harness.remove("goes")

    await harness.host()
    await harness.settle()

    pools = (await harness.node.read_ledger()).pools
    sizes = {name.split("-")[1]: pool_addresses(pool).size for name, pool in pools.items()}
    assert sizes == {"stays": 3, "comes": 1}


async def test_an_application_that_waits_is_not_looked_at_for_what_others_do(
    harness: AutoPoolHarness,
) -> None:
    await harness.host()
    await harness.application("web", size="2", subnet="net")
    await harness.settle()
    await harness.pods_of("web", "2")
    await harness.application("web", size="1", subnet="net")
    attempts = await _looks_when_waiting(harness)

    for number in range(OTHERS):
        await harness.application(f"other-{number}", size="1", subnet="net")
        await harness.settle()
    more = await _looks_when_waiting(harness) - attempts
    assert more <= WAKES_TOO_MANY, "what others do does not concern it"

    await harness.stop("web-0")
    await harness.settle()
    (pool,) = [
        one for one in (await harness.node.read_ledger()).pools.values() if "web" in one.name
    ]
    assert pool.ips == ("10.7.0.11",)


async def test_a_wake_whose_answer_was_lost_is_sent_again(
    harness: AutoPoolHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, lost = Client.signal_with_start, ["first", "second"]

    async def forgetful(client: Client, *args: Any, **options: Any) -> Any:
        if lost:
            raise OutcomeUnknown(f"the {lost.pop(0)} answer was lost")
        return await real(client, *args, **options)

    monkeypatch.setattr(Client, "signal_with_start", forgetful)
    await harness.host()
    await harness.application("web", size="2", subnet="net")

    assert await harness.pod("web-0", of="web") == "has 10.7.0.10"
    assert not lost


async def test_a_pool_that_somebody_deletes_by_hand_comes_back(harness: AutoPoolHarness) -> None:
    await harness.host()
    await harness.application("web", size="2", subnet="net")
    await harness.settle()
    (pool,) = (await harness.node.read_ledger()).pools.values()

    await harness.node.apply(DropAutoPool(pool.name, harness.applications.there[key_of("web")].uid))
    await harness.settle()

    assert list((await harness.node.read_ledger()).pools) == [pool.name]


async def _looks_when_waiting(harness: AutoPoolHarness) -> int:
    async with Client(harness.store, harness.node.keys) as client:

        async def waiting() -> int:
            try:
                found: Any = await client.query(workflow_id(key_of("web")), "status", timeout_s=20)
            except CallRejected:
                return 0  # its run has just started
            return int(found["looks"]) if found["phase"] == "waiting" else 0

        return await eventually(waiting)


async def _is_true(value: bool) -> bool:  # what eventually asks
    return value

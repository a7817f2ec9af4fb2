"""Automatic pools with controllers, in memory and on etcd.

The first argument of ``harness.application`` is NAME (a Deployment) or KIND/NAME. ``size``: the
number of Pods. ``number``: how many addresses the application requests.
"""

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
from tests.workflows.faults.killing import KillingStore, KillMoment
from tests.workflows.jobs.autopools.autopool_harness import AutoPoolHarness
from tests.workflows.jobs.autopools.scripted_applications import key_of
from workflows.engine.client.client import Client
from workflows.jobs.autopools.application import workflow_id

NET = Subnet("net", 4, "10.7.0.0/16", ("10.7.0.10-10.7.0.159",))
APPLICATIONS = 30
APPLICATIONS_DURING_KILL = 8
CONCURRENT_ADDS = 100
WAIT_S = 0.3
"""Seconds that an ADD waits for a pool which no controller creates."""

KILLED_AT = (6, 12, 20)
"""The numbers of the commits at which a test kills the controller."""

OTHER_APPLICATIONS = 8
EXTRA_RECONCILIATIONS_MAX = 2
"""The dispatcher may signal web's execution again when its view first shows web's pool, and when it
receives the report of the reconciliation that created the pool."""


@pytest.fixture
async def harness(store: KeyValueStore, cluster_name: str) -> AsyncIterator[AutoPoolHarness]:
    harness = AutoPoolHarness(store, cluster_name)
    await harness.open(controllers=0)
    await harness.node.apply(ApplySubnet(NET))
    yield harness
    await harness.close()
    await check_everything(harness.node)


async def test_the_pools_of_thirty_applications_are_created_resized_and_deleted(
    harness: AutoPoolHarness,
) -> None:
    """Cases I00006 and I00008 of docs/contributing/compatibility.md."""
    await harness.start_controller()
    await harness.start_controller()
    for index in range(APPLICATIONS):
        await harness.application(f"app-{index}", subnet="net", number="5")
    await harness.settle()
    ledger = await harness.node.read_ledger()
    assert {pool_addresses(pool).size for pool in ledger.pools.values()} == {5}
    assert addresses_of_pools(NET, ledger.pools.values()) == pool_addresses(NET)

    for index in range(APPLICATIONS):
        await harness.application(f"app-{index}", subnet="net", number="3" if index % 2 else "1")
    await harness.settle()
    pools = (await harness.node.read_ledger()).pools.values()
    assert sum(pool_addresses(pool).size for pool in pools) == APPLICATIONS * 2

    for index in range(APPLICATIONS):
        await harness.remove(f"app-{index}")
    await harness.settle()
    assert (await harness.node.read_ledger()).pools == {}


async def test_a_hundred_concurrent_adds_get_addresses_of_one_new_pool(
    harness: AutoPoolHarness,
) -> None:
    await harness.start_controller()
    await harness.application("web", size=str(CONCURRENT_ADDS), subnet="net")

    answers = await asyncio.gather(
        *(harness.pod(f"web-{index}", of="web") for index in range(CONCURRENT_ADDS))
    )

    assert len(set(answers)) == CONCURRENT_ADDS
    defined = [
        recorded.event
        for recorded in await harness.node.log()
        if isinstance(recorded.event, PoolDefined)
    ]
    assert len(defined) == 1


async def test_an_add_needs_no_controller_if_the_pool_exists(harness: AutoPoolHarness) -> None:
    controller = await harness.start_controller()
    await harness.application("web", size="2", subnet="net")
    await harness.settle()
    await harness.kill_controller(controller)

    assert await harness.pod("web-0", of="web") == "has 10.7.0.10"
    assert harness.waits == 0


async def test_an_add_without_a_controller_fails_with_the_reason_and_the_remedy(
    harness: AutoPoolHarness,
) -> None:
    await harness.application("web", size="1", subnet="net")
    pod = harness.pod_facts("web-0", "web")

    with pytest.raises(PoolPending) as raised:
        await harness.add(pod, wait_s=WAIT_S)

    assert "no controller has processed the pool request" in raised.value.message
    assert "orbctl status" in raised.value.remedy


async def test_a_controller_that_starts_later_serves_a_waiting_pool_request(
    harness: AutoPoolHarness,
) -> None:
    await harness.application("CloneSet/web", subnet="net", number="1")
    pending_add = asyncio.ensure_future(harness.pod("web-0", of="CloneSet/web"))
    await eventually(lambda: _as_awaitable(harness.waits == 1))

    await harness.start_controller()

    assert await within(pending_add) == "has 10.7.0.10"


async def test_an_add_fails_while_the_pool_is_full_and_succeeds_after_a_scale_up(
    harness: AutoPoolHarness,
) -> None:
    await harness.start_controller()
    await harness.application("web", size="1", subnet="net")
    await harness.pod("web-0", of="web")
    with pytest.raises(AddressesUsedOut) as raised:
        await harness.add(harness.pod_facts("web-1", "web"))
    assert "as many addresses as its application requests" in raised.value.message

    await harness.application("web", size="2", subnet="net")

    assert await harness.pod("web-1", of="web") == "has 10.7.0.11"


@pytest.mark.parametrize("moment", KillMoment)
@pytest.mark.parametrize("at", KILLED_AT)
async def test_another_controller_creates_the_pools_after_a_kill(
    harness: AutoPoolHarness, at: int, moment: KillMoment
) -> None:
    await harness.start_controller()
    killing = KillingStore(harness.store, at, moment)
    killed = await harness.start_controller(killing)
    for index in range(APPLICATIONS_DURING_KILL):
        await harness.application(f"app-{index}", subnet="net", number="2")

    async def has_died_or_settled() -> bool:
        return killing.died.is_set() or await harness.is_settled()

    await eventually(has_died_or_settled)
    # If all pools exist before commit number ``at``, the controller dies now.
    killing.died.set()
    await harness.kill_controller(killed)
    await harness.settle()

    Counters.kills += 1
    pools = (await harness.node.read_ledger()).pools.values()
    assert sorted(pool_addresses(pool).size for pool in pools) == [2] * APPLICATIONS_DURING_KILL
    defined = [
        recorded.event
        for recorded in await harness.node.log()
        if isinstance(recorded.event, PoolDefined)
    ]
    assert len(defined) == APPLICATIONS_DURING_KILL


async def test_the_next_leader_applies_changes_from_the_time_without_a_leader(
    harness: AutoPoolHarness,
) -> None:
    leader = await harness.start_controller()
    await harness.application("stays", size="1", subnet="net")
    await harness.application("goes", size="1", subnet="net")
    await harness.settle()
    await harness.kill_controller(leader)
    await harness.application("comes", size="1", subnet="net")
    await harness.application("stays", size="3", subnet="net")
    await harness.remove("goes")

    await harness.start_controller()
    await harness.settle()

    pools = (await harness.node.read_ledger()).pools
    sizes = {name.split("-")[1]: pool_addresses(pool).size for name, pool in pools.items()}
    assert sizes == {"stays": 3, "comes": 1}


async def test_an_execution_that_waits_ignores_changes_of_other_applications(
    harness: AutoPoolHarness,
) -> None:
    await harness.start_controller()
    await harness.application("web", size="2", subnet="net")
    await harness.settle()
    await harness.pods_of("web", "2")
    # The pool cannot shrink: both of its addresses are in use.
    await harness.application("web", size="1", subnet="net")
    reconciliations = await _count_reconciliations_when_waiting(harness)

    for index in range(OTHER_APPLICATIONS):
        await harness.application(f"other-{index}", size="1", subnet="net")
        await harness.settle()
    further_reconciliations = await _count_reconciliations_when_waiting(harness) - reconciliations
    assert further_reconciliations <= EXTRA_RECONCILIATIONS_MAX

    await harness.stop("web-0")
    await harness.settle()
    (pool,) = [
        pool for pool in (await harness.node.read_ledger()).pools.values() if "web" in pool.name
    ]
    assert pool.ips == ("10.7.0.11",)


async def test_a_signal_with_an_unknown_outcome_is_sent_again(
    harness: AutoPoolHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    send, lost_answers = Client.signal_with_start, ["first", "second"]

    async def lose_answers(client: Client, *args: Any, **options: Any) -> Any:
        if lost_answers:
            raise OutcomeUnknown(f"the {lost_answers.pop(0)} answer was lost")
        return await send(client, *args, **options)

    monkeypatch.setattr(Client, "signal_with_start", lose_answers)
    await harness.start_controller()
    await harness.application("web", size="2", subnet="net")

    assert await harness.pod("web-0", of="web") == "has 10.7.0.10"
    assert not lost_answers


async def test_a_pool_that_is_deleted_outside_its_workflow_is_created_again(
    harness: AutoPoolHarness,
) -> None:
    await harness.start_controller()
    await harness.application("web", size="2", subnet="net")
    await harness.settle()
    (pool,) = (await harness.node.read_ledger()).pools.values()

    await harness.node.apply(
        DropAutoPool(pool.name, harness.applications.existing[key_of("web")].uid)
    )
    await harness.settle()

    assert list((await harness.node.read_ledger()).pools) == [pool.name]


async def _count_reconciliations_when_waiting(harness: AutoPoolHarness) -> int:
    """Wait until the phase of web is "waiting"; return its number of reconciliations."""
    async with Client(harness.store, harness.node.keys) as client:

        async def count_if_waiting() -> int:
            try:
                status: Any = await client.query(workflow_id(key_of("web")), "status", timeout_s=20)
            except CallRejected:
                return 0  # the execution has just started and answers no query
            # Published: users see the name "looks", which counts reconciliations.
            return int(status["looks"]) if status["phase"] == "waiting" else 0

        return await eventually(count_if_waiting)


async def _as_awaitable(value: bool) -> bool:
    return value

"""Concurrent planning of automatic pools loses no address and gives none to two pools.

``SUBNET4`` has 20 addresses from 10.7.0.10.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from core.allocation.allocator import Added, AllocatorSettings
from core.configuration.configurator import Applied
from core.domain.autopools.pool_names import ApplicationKey
from core.domain.autopools.pool_plan import DesiredPool
from core.domain.configuration.commands import (
    ApplyAutoPool,
    ApplyReservation,
    ApplySubnet,
    Command,
    DropAutoPool,
)
from core.domain.configuration.configuration_state import pool_addresses
from core.domain.events import PoolDefined
from core.domain.evolution import Ledger
from core.domain.model import Owner, Reservation, Subnet
from core.domain.request_facts import PodFacts
from core.domain.selection.selection_request import SelectionSettings
from core.domain.subnets.subnet_model import addresses_of_pools, pools_of_subnet
from core.errors import Refused
from core.eventstore.kv import KeyValueStore
from tests.core.domain.autopools.samples import (
    POOL_NAME,
    SUBNET4,
    WEB_KEY,
    WEB_SCOPE,
    WEB_UID,
    desired_pool,
    template,
)
from tests.support.emulation import needs_real_time
from tests.support.node_harness import TEST_CAUSE, NodeHarness, check_everything, gather_outcomes

WRITERS = 4
CONCURRENT_COMMANDS = 100
APPLICATIONS = 30
UID_LABEL = "ipam.spidernet.io/owner-application-uid"
SETTINGS = AllocatorSettings(
    selection=SelectionSettings(subnets_enabled=True, auto_pools_enabled=True)
)
WIDE_SUBNET = Subnet("net", 4, "10.7.0.0/16", ("10.7.0.10-10.7.0.159",))


@pytest.fixture
async def nodes(store: KeyValueStore, cluster_name: str) -> AsyncIterator[list[NodeHarness]]:
    async with contextlib.AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(
                NodeHarness(
                    store, f"c-{number}", cluster=cluster_name, settings=SETTINGS, cool_down_s=0
                )
            )
            for number in range(WRITERS)
        ]


async def apply_concurrently(nodes: list[NodeHarness], commands: list[Command]) -> list[object]:
    calls = [
        nodes[number % len(nodes)].configurator.apply(command, TEST_CAUSE)
        for number, command in enumerate(commands)
    ]
    return await gather_outcomes(*calls)


def outcomes_with_events(outcomes: list[object]) -> list[Applied]:
    """The outcomes with events; fails unless every command was applied or refused."""
    for outcome in outcomes:
        assert isinstance(outcome, Applied | Refused), outcome
    return [outcome for outcome in outcomes if isinstance(outcome, Applied) and outcome.events]


def desired_pool_of(number: int, size: int) -> DesiredPool:
    key = ApplicationKey("apps/v1", "Deployment", "shop", f"app-{number}")
    return desired_pool(size, WEB_SCOPE._replace(application=key), f"u-{number:05}")


def web_pod(name: str) -> PodFacts:
    owner = Owner(
        WEB_KEY.kind,
        WEB_KEY.name,
        namespace=WEB_KEY.namespace,
        api_version=WEB_KEY.api_version,
        uid=WEB_UID,
    )
    return PodFacts("shop", name, f"uid-{name}", annotations=template(), owner=owner)


def assert_pools_are_disjoint_and_inside(subnet: Subnet, ledger: Ledger) -> None:
    pools = pools_of_subnet(subnet.name, ledger.pools)
    addresses = addresses_of_pools(subnet, pools)
    assert addresses.issubset(pool_addresses(subnet))
    assert addresses.size == sum(pool_addresses(pool).size for pool in pools)


@needs_real_time
async def test_only_one_of_a_hundred_concurrent_creations_of_a_pool_succeeds(
    nodes: list[NodeHarness],
) -> None:
    await nodes[0].apply(ApplySubnet(SUBNET4))

    outcomes = await apply_concurrently(
        nodes, [ApplyAutoPool(desired_pool(5))] * CONCURRENT_COMMANDS
    )

    assert len(outcomes_with_events(outcomes)) == 1
    ledger = await check_everything(nodes[0])
    assert {name: pool.ips for name, pool in ledger.pools.items()} == {
        POOL_NAME: ("10.7.0.10-10.7.0.14",)
    }


@needs_real_time
async def test_thirty_applications_can_use_all_addresses_of_a_subnet(
    nodes: list[NodeHarness],
) -> None:
    """Cases I00006 and I00008 of docs/contributing/compatibility.md."""
    await nodes[0].apply(ApplySubnet(WIDE_SUBNET))
    create_outcomes = await apply_concurrently(
        nodes, [ApplyAutoPool(desired_pool_of(number, 5)) for number in range(APPLICATIONS)]
    )
    assert len(outcomes_with_events(create_outcomes)) == APPLICATIONS
    ledger = await check_everything(nodes[0])
    assert_pools_are_disjoint_and_inside(WIDE_SUBNET, ledger)
    assert addresses_of_pools(WIDE_SUBNET, ledger.pools.values()) == pool_addresses(WIDE_SUBNET)

    shrink_outcomes = await apply_concurrently(
        nodes,
        [
            ApplyAutoPool(desired_pool_of(number, 3 if number % 2 else 1))
            for number in range(APPLICATIONS)
        ],
    )
    assert len(outcomes_with_events(shrink_outcomes)) == APPLICATIONS
    ledger = await check_everything(nodes[0])
    assert_pools_are_disjoint_and_inside(WIDE_SUBNET, ledger)
    assert addresses_of_pools(WIDE_SUBNET, ledger.pools.values()).size == APPLICATIONS * 2

    drops = [DropAutoPool(name, pool.labels[UID_LABEL]) for name, pool in ledger.pools.items()]
    assert len(outcomes_with_events(await apply_concurrently(nodes, list(drops)))) == APPLICATIONS
    assert (await check_everything(nodes[0])).pools == {}


@needs_real_time
async def test_the_last_applications_get_no_pool_if_addresses_run_out(
    nodes: list[NodeHarness],
) -> None:
    await nodes[0].apply(ApplySubnet(SUBNET4))

    outcomes = await apply_concurrently(
        nodes, [ApplyAutoPool(desired_pool_of(number, 3)) for number in range(APPLICATIONS)]
    )

    # 20 addresses suffice for 6 pools of 3.
    assert len(outcomes_with_events(outcomes)) == 6
    ledger = await check_everything(nodes[0])
    assert len(ledger.pools) == 6
    assert_pools_are_disjoint_and_inside(SUBNET4, ledger)


async def test_a_pool_skips_reserved_addresses_unless_the_pool_was_written_first(
    nodes: list[NodeHarness],
) -> None:
    await nodes[0].apply(ApplySubnet(SUBNET4))
    reserve = ApplyReservation(Reservation("kept", 4, ("10.7.0.10-10.7.0.12",)))

    await apply_concurrently(nodes, [ApplyAutoPool(desired_pool(2)), reserve])

    events = [recorded.event for recorded in await nodes[0].log()]
    pool = next(event.pool for event in events if isinstance(event, PoolDefined))
    is_pool_first = isinstance(events[1], PoolDefined)  # events[0] defines the subnet
    assert pool.ips == (("10.7.0.10-10.7.0.11",) if is_pool_first else ("10.7.0.13-10.7.0.14",))


async def test_a_shrinking_pool_never_loses_an_address_that_is_being_claimed(
    nodes: list[NodeHarness],
) -> None:
    await nodes[0].apply(ApplySubnet(SUBNET4), ApplyAutoPool(desired_pool(8)))
    for node in nodes:
        await node.view.freshen()

    adds = [nodes[number % 3].add(web_pod(f"web-{number}")) for number in range(4)]
    shrink = nodes[3].configurator.apply(ApplyAutoPool(desired_pool(4)), TEST_CAUSE)
    *add_results, shrink_result = await gather_outcomes(*adds, shrink)

    assert isinstance(shrink_result, Applied)
    assert all(isinstance(result, Added) for result in add_results), add_results
    ledger = await check_everything(nodes[0])
    assert pool_addresses(ledger.pools[POOL_NAME]).size == 4
    assert len(ledger.claims) == 4


async def test_a_pool_is_either_deleted_or_claimed(nodes: list[NodeHarness]) -> None:
    await nodes[0].apply(ApplySubnet(SUBNET4), ApplyAutoPool(desired_pool(2)))
    for node in nodes:
        await node.view.freshen()

    add_result, drop_result = await asyncio.gather(
        nodes[0].add(web_pod("web-0")),
        nodes[1].configurator.apply(DropAutoPool(POOL_NAME, WEB_UID), TEST_CAUSE),
        return_exceptions=True,
    )

    assert isinstance(drop_result, Applied)
    ledger = await check_everything(nodes[0])
    assert isinstance(add_result, Added) == (POOL_NAME in ledger.pools)
    assert bool(ledger.claims) == (POOL_NAME in ledger.pools)


async def test_a_new_pool_is_written_in_one_event(
    nodes: list[NodeHarness],
) -> None:
    await nodes[0].apply(ApplySubnet(SUBNET4))
    before = await nodes[0].log()

    await nodes[1].apply(ApplyAutoPool(desired_pool(3)))

    (event,) = (await nodes[0].log())[len(before) :]
    assert isinstance(event.event, PoolDefined)
    assert_pools_are_disjoint_and_inside(SUBNET4, await check_everything(nodes[0]))

"""Many controllers plan at once, on both stores: one pool each, no duplicate address, no leak."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from core.allocation.allocator import Added, AllocatorSettings
from core.configuration.configurator import Applied
from core.domain.autopools.names import ApplicationKey
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
from core.domain.facts import PodFacts
from core.domain.model import Owner, Reservation, Subnet
from core.domain.selection.request import SelectionSettings
from core.domain.subnets.subnet_model import addresses_of_pools, controlled
from core.errors import Refused
from core.eventstore.kv import KeyValueStore
from tests.core.domain.autopools.samples import KEY, NAME, NET, PLACE, UID, template, wish
from tests.support.emulation import races_deadlines
from tests.support.node_harness import CAUSE, NodeHarness, check_everything, gather

WRITERS = 4
TOGETHER = 100
APPLICATIONS = 30
SETTINGS = AllocatorSettings(
    selection=SelectionSettings(subnets_enabled=True, auto_pools_enabled=True)
)
WIDE = Subnet("net", 4, "10.7.0.0/16", ("10.7.0.10-10.7.0.159",))


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


async def together(nodes: list[NodeHarness], commands: list[Command]) -> list[object]:
    """Run all commands concurrently, distributed over the writers."""
    calls = [
        nodes[number % len(nodes)].configurator.apply(command, CAUSE)
        for number, command in enumerate(commands)
    ]
    return await gather(*calls)


def changed(outcomes: list[object]) -> list[Applied]:
    """The commands that changed something; any failure but a refusal is raised."""
    for one in outcomes:
        assert isinstance(one, Applied | Refused), one
    return [one for one in outcomes if isinstance(one, Applied) and one.events]


def wish_of(number: int, size: int) -> DesiredPool:
    """The pool request of one of many applications."""
    key = ApplicationKey("apps/v1", "Deployment", "shop", f"app-{number}")
    return wish(size, PLACE._replace(application=key), f"u-{number:05}")


def web_pod(name: str) -> PodFacts:
    """A Pod of the application."""
    owner = Owner(KEY.kind, KEY.name, KEY.namespace, KEY.api_version, UID)
    return PodFacts("shop", name, f"uid-{name}", annotations=template(), owner=owner)


def assert_shares_fit(truth: Ledger, subnet: Subnet) -> None:
    pools = controlled(subnet.name, truth.pools)
    given = addresses_of_pools(subnet, pools)
    assert given.issubset(pool_addresses(subnet))
    assert given.size == sum(pool_addresses(pool).size for pool in pools)


@races_deadlines
async def test_of_a_hundred_concurrent_creations_of_a_pool_one_succeeds(
    nodes: list[NodeHarness],
) -> None:
    await nodes[0].apply(ApplySubnet(NET))

    outcomes = await together(nodes, [ApplyAutoPool(wish(5))] * TOGETHER)

    assert len(changed(outcomes)) == 1
    truth = await check_everything(nodes[0])
    assert {name: pool.ips for name, pool in truth.pools.items()} == {
        NAME: ("10.7.0.10-10.7.0.14",)
    }


@races_deadlines
async def test_thirty_applications_can_use_all_addresses_of_a_subnet(
    nodes: list[NodeHarness],
) -> None:
    """I00006 and I00008: five each; then half to three, half to one; then all gone."""
    await nodes[0].apply(ApplySubnet(WIDE))
    made = await together(nodes, [ApplyAutoPool(wish_of(n, 5)) for n in range(APPLICATIONS)])
    assert len(changed(made)) == APPLICATIONS
    truth = await check_everything(nodes[0])
    assert_shares_fit(truth, WIDE)
    assert addresses_of_pools(WIDE, truth.pools.values()) == pool_addresses(WIDE)

    shrunk = await together(
        nodes, [ApplyAutoPool(wish_of(n, 3 if n % 2 else 1)) for n in range(APPLICATIONS)]
    )
    assert len(changed(shrunk)) == APPLICATIONS
    truth = await check_everything(nodes[0])
    assert_shares_fit(truth, WIDE)
    assert addresses_of_pools(WIDE, truth.pools.values()).size == APPLICATIONS * 2

    gone = [DropAutoPool(name, pool.labels[UID_LABEL]) for name, pool in truth.pools.items()]
    assert len(changed(await together(nodes, list(gone)))) == APPLICATIONS
    assert (await check_everything(nodes[0])).pools == {}


UID_LABEL = "ipam.spidernet.io/owner-application-uid"


@races_deadlines
async def test_if_there_are_too_few_addresses_the_last_applications_get_none(
    nodes: list[NodeHarness],
) -> None:
    await nodes[0].apply(ApplySubnet(NET))

    outcomes = await together(nodes, [ApplyAutoPool(wish_of(n, 3)) for n in range(APPLICATIONS)])

    assert len(changed(outcomes)) == 6
    truth = await check_everything(nodes[0])
    assert len(truth.pools) == 6
    assert_shares_fit(truth, NET)


async def test_a_concurrent_reservation_is_respected_or_was_written_later(
    nodes: list[NodeHarness],
) -> None:
    await nodes[0].apply(ApplySubnet(NET))
    reserve = ApplyReservation(Reservation("kept", 4, ("10.7.0.10-10.7.0.12",)))

    await together(nodes, [ApplyAutoPool(wish(2)), reserve])

    events = [one.event for one in await nodes[0].log()]
    pool = next(one.pool for one in events if isinstance(one, PoolDefined))
    is_first = isinstance(events[1], PoolDefined)
    assert pool.ips == (("10.7.0.10-10.7.0.11",) if is_first else ("10.7.0.13-10.7.0.14",))


async def test_a_shrinking_pool_never_loses_an_address_that_is_being_claimed(
    nodes: list[NodeHarness],
) -> None:
    await nodes[0].apply(ApplySubnet(NET), ApplyAutoPool(wish(8)))
    for node in nodes:
        await node.view.freshen()

    adds = [nodes[n % 3].add(web_pod(f"web-{n}")) for n in range(4)]
    shrink = nodes[3].configurator.apply(ApplyAutoPool(wish(4)), CAUSE)
    *added, shrunk = await gather(*adds, shrink)

    assert isinstance(shrunk, Applied)
    assert all(isinstance(one, Added) for one in added), added
    truth = await check_everything(nodes[0])
    assert pool_addresses(truth.pools[NAME]).size == 4
    assert len(truth.claims) == 4


async def test_a_pool_is_deleted_or_gets_a_claim_and_never_both(nodes: list[NodeHarness]) -> None:
    await nodes[0].apply(ApplySubnet(NET), ApplyAutoPool(wish(2)))
    for node in nodes:
        await node.view.freshen()

    added, dropped = await asyncio.gather(
        nodes[0].add(web_pod("web-0")),
        nodes[1].configurator.apply(DropAutoPool(NAME, UID), CAUSE),
        return_exceptions=True,
    )

    assert isinstance(dropped, Applied)
    truth = await check_everything(nodes[0])
    assert isinstance(added, Added) == (NAME in truth.pools)
    assert bool(truth.claims) == (NAME in truth.pools)


async def test_the_share_and_the_pool_are_one_event_in_one_transaction(
    nodes: list[NodeHarness],
) -> None:
    await nodes[0].apply(ApplySubnet(NET))
    before = await nodes[0].log()

    await nodes[1].apply(ApplyAutoPool(wish(3)))

    (event,) = (await nodes[0].log())[len(before) :]
    assert isinstance(event.event, PoolDefined)
    assert_shares_fit(await check_everything(nodes[0]), NET)

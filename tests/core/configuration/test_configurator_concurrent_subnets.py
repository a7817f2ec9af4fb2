"""Exactly one of several conflicting concurrent commands succeeds.

``SUBNET4``, the SpiderSubnet ``net``, contains the addresses of ``BLUE_POOL``.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from core.archive.archive_directory import LocalFiles
from core.audit.repair import repair
from core.audit.verify import verify
from core.configuration.configurator import Applied
from core.domain.configuration.commands import ApplyPool, ApplySubnet, Command, DeleteSubnet
from core.domain.events import PoolDefined, SubnetDefined
from core.domain.model import Pool
from core.errors import Refused
from core.eventstore.kv import Delete, KeyValueStore
from tests.core.domain.subnets.samples import BLUE_POOL, SUBNET4
from tests.support.emulation import needs_real_time
from tests.support.node_harness import TEST_CAUSE, NodeHarness, check_everything, gather_outcomes

WRITERS = 4
COMMANDS = 100


@pytest.fixture
async def nodes(store: KeyValueStore, cluster_name: str) -> AsyncIterator[list[NodeHarness]]:
    async with contextlib.AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(NodeHarness(store, f"c-{number}", cluster=cluster_name))
            for number in range(WRITERS)
        ]


async def apply_concurrently(nodes: list[NodeHarness], commands: list[Command]) -> list[object]:
    calls = [
        nodes[number % len(nodes)].configurator.apply(command, TEST_CAUSE)
        for number, command in enumerate(commands)
    ]
    return await gather_outcomes(*calls)


def successes(outcomes: list[object]) -> list[Applied]:
    """The outcomes with events; fails unless every command was applied or refused."""
    for outcome in outcomes:
        assert isinstance(outcome, Applied | Refused), outcome
    return [outcome for outcome in outcomes if isinstance(outcome, Applied) and outcome.events]


@needs_real_time
async def test_exactly_one_of_a_hundred_identical_subnets_is_created(
    nodes: list[NodeHarness],
) -> None:
    outcomes = await apply_concurrently(nodes, [ApplySubnet(SUBNET4)] * COMMANDS)

    assert len(successes(outcomes)) == 1
    assert all(isinstance(outcome, Applied) for outcome in outcomes)
    ledger = await check_everything(nodes[0])
    assert list(ledger.subnets) == ["net"]


@needs_real_time
async def test_exactly_one_of_a_hundred_subnets_with_one_cidr_is_created(
    nodes: list[NodeHarness],
) -> None:
    commands: list[Command] = [
        ApplySubnet(SUBNET4._replace(name=f"n{number}")) for number in range(COMMANDS)
    ]

    outcomes = await apply_concurrently(nodes, commands)

    assert len(successes(outcomes)) == 1
    assert sum(isinstance(outcome, Refused) for outcome in outcomes) == COMMANDS - 1
    assert len((await check_everything(nodes[0])).subnets) == 1


@needs_real_time
async def test_exactly_one_of_a_hundred_pools_with_the_same_addresses_is_created(
    nodes: list[NodeHarness],
) -> None:
    await nodes[0].apply(ApplySubnet(SUBNET4))
    commands: list[Command] = [
        ApplyPool(BLUE_POOL._replace(name=f"p{number}")) for number in range(COMMANDS)
    ]

    outcomes = await apply_concurrently(nodes, commands)

    assert len(successes(outcomes)) == 1
    assert len((await check_everything(nodes[0])).pools) == 1


async def test_either_a_pool_or_a_subnet_too_small_for_it_is_created(
    nodes: list[NodeHarness],
) -> None:
    too_small = SUBNET4._replace(ips=("10.7.0.10-10.7.0.12",))

    outcomes = await apply_concurrently(nodes, [ApplyPool(BLUE_POOL), ApplySubnet(too_small)])

    assert len(successes(outcomes)) == 1
    await check_everything(nodes[0])


async def test_a_pool_has_an_owner_subnet_if_and_only_if_the_subnet_exists(
    nodes: list[NodeHarness],
) -> None:
    await nodes[0].apply(ApplySubnet(SUBNET4))

    await apply_concurrently(nodes, [ApplyPool(BLUE_POOL), DeleteSubnet("net")])

    ledger = await check_everything(nodes[0])
    owner = ledger.pools["blue"].labels.get("ipam.spidernet.io/owner-spider-subnet")
    assert (owner == "net") == ("net" in ledger.subnets)


async def test_a_subnet_and_the_pools_that_it_adopts_change_in_one_transaction(
    nodes: list[NodeHarness],
) -> None:
    pools = [BLUE_POOL, Pool("green", 4, SUBNET4.subnet, ("10.7.0.40",))]
    await nodes[0].apply(*pools)

    await nodes[1].apply(ApplySubnet(SUBNET4))

    adoption_events = [recorded for recorded in await nodes[0].log() if recorded.writer == "c-1"]
    assert len({recorded.position for recorded in adoption_events}) == 1
    assert [type(recorded.event) for recorded in adoption_events] == [
        SubnetDefined,
        PoolDefined,
        PoolDefined,
    ]
    await check_everything(nodes[0])


async def test_verify_finds_a_lost_subnet_and_repair_writes_it_again(
    nodes: list[NodeHarness], tmp_path: Path
) -> None:
    node = nodes[0]
    await node.apply(ApplySubnet(SUBNET4), BLUE_POOL)
    await node.store.commit([], [Delete(node.keys.subnet("net"))])
    files = LocalFiles(tmp_path)

    report = await verify(node.store, node.keys, files)
    assert [(difference.kind, difference.name) for difference in report.differences] == [
        ("subnet", "net")
    ]
    await repair(report.plan, node.store, node.keys, node.writer, TEST_CAUSE)

    assert (await verify(node.store, node.keys, files)).is_clean

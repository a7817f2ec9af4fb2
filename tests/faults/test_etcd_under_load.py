"""Members of a real etcd die or hang while nodes claim and release addresses.

Afterwards, the log and the state keys must satisfy the invariants I1 to I5 of
docs/contributing/architecture.md.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from core.errors import OrbweaverError
from core.eventstore.etcd import EtcdSettings, EtcdStore
from tests.support.etcd import EtcdCluster
from tests.support.node_harness import NodeHarness, check_everything, pod, pool

NODES = 3
CALLERS_PER_NODE = 4
OPERATIONS_PER_CALLER = 40
SUCCESSES_MIN = OPERATIONS_PER_CALLER + 1
"""A run has this many successes only if nodes serve again after the fault."""

LOADED_TRANSACTIONS = 10
"""The number of one node's transactions before the fault."""

FAULT_TRANSACTIONS = 20
FAULT_S_MAX = 3
"""The fault ends after ``FAULT_TRANSACTIONS`` of one node, or after this time."""

pytestmark = pytest.mark.etcd


@asynccontextmanager
async def three_nodes(etcd: EtcdCluster) -> AsyncIterator[list[NodeHarness]]:
    stores = [EtcdStore(EtcdSettings(etcd.endpoints)) for _ in range(NODES)]
    nodes = [NodeHarness(store, f"node-{number}") for number, store in enumerate(stores)]
    for node in nodes:
        await node.__aenter__()
    await nodes[0].apply(pool("v4", "10.6.0.1-10.6.0.30"), pool("v6", "fd00:6::1-fd00:6::1e"))
    yield nodes
    for node, store in zip(nodes, stores, strict=True):
        await node.__aexit__(None, None, None)
        await store.close()


async def run_caller(node: NodeHarness, rng: random.Random) -> tuple[int, int]:
    """Return the numbers of successes and failures."""
    success_count = failure_count = 0
    for _ in range(OPERATIONS_PER_CALLER):
        pod_facts = pod(f"web-{rng.randrange(8)}", uid=f"uid-{rng.randrange(24)}")
        try:
            async with asyncio.timeout(20):
                await (node.add(pod_facts) if rng.random() < 0.6 else node.delete(pod_facts))
            success_count += 1
        except (OrbweaverError, TimeoutError):
            failure_count += 1
    return success_count, failure_count


async def run_under_fault(
    etcd: EtcdCluster, seed: int, fault: Callable[[], None], repair: Callable[[], None]
) -> int:
    """Run the load through a fault and its repair; return the number of successes."""
    async with three_nodes(etcd) as nodes:
        load = [
            asyncio.ensure_future(
                run_caller(node, random.Random(seed * 100 + number * 10 + caller))
            )
            for number, node in enumerate(nodes)
            for caller in range(CALLERS_PER_NODE)
        ]
        while nodes[1].writer.transactions < LOADED_TRANSACTIONS:
            await asyncio.sleep(0.01)
        await asyncio.to_thread(fault)
        before = nodes[1].writer.transactions
        with suppress(TimeoutError):
            async with asyncio.timeout(FAULT_S_MAX):
                while nodes[1].writer.transactions < before + FAULT_TRANSACTIONS:
                    await asyncio.sleep(0.01)
        await asyncio.to_thread(repair)
        results = await asyncio.gather(*load)
        async with NodeHarness(nodes[0].store, "checker") as checking_node:
            await check_everything(checking_node)
        return sum(success_count for success_count, _ in results)


@pytest.mark.parametrize("seed", [1, 2])
async def test_no_address_is_lost_or_doubled_when_a_single_etcd_is_killed_and_restarted(
    tmp_path: Path, seed: int
) -> None:
    with EtcdCluster(tmp_path) as etcd:
        member = etcd.members[0]
        success_count = await run_under_fault(etcd, seed, member.kill, lambda: etcd.restart(member))

        assert success_count >= SUCCESSES_MIN


@pytest.mark.parametrize("seed", [3, 4])
async def test_no_address_is_lost_or_doubled_when_the_leader_is_killed(
    tmp_path: Path, seed: int
) -> None:
    with EtcdCluster(tmp_path, size=3) as etcd:
        leader = etcd.leader()
        success_count = await run_under_fault(etcd, seed, leader.kill, lambda: etcd.restart(leader))

        assert success_count >= SUCCESSES_MIN


async def test_no_address_is_lost_or_doubled_when_a_member_other_than_the_leader_hangs(
    tmp_path: Path,
) -> None:
    with EtcdCluster(tmp_path, size=3) as etcd:
        leader = etcd.leader()
        paused_member = next(member for member in etcd.members if member is not leader)
        success_count = await run_under_fault(etcd, 5, paused_member.pause, paused_member.resume)

        assert success_count >= SUCCESSES_MIN


async def test_no_address_is_lost_or_doubled_when_the_leader_hangs(tmp_path: Path) -> None:
    with EtcdCluster(tmp_path, size=3) as etcd:
        leader = etcd.leader()
        success_count = await run_under_fault(etcd, 6, leader.pause, leader.resume)

        assert success_count >= SUCCESSES_MIN

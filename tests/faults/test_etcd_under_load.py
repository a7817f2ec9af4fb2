"""Seeded fault runs on real etcd: members die, hang and come back while nodes claim and release.

Each run drives three nodes and ends with the checker over the whole log (I1 to I5). Operations may
fail, but must not return a wrong result.
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
CALLERS = 4
OPERATIONS = 40
"""Per caller; some 480 operations in a run."""

pytestmark = pytest.mark.etcd


@asynccontextmanager
async def three_nodes(etcd: EtcdCluster) -> AsyncIterator[list[NodeHarness]]:
    stores = [EtcdStore(EtcdSettings(etcd.endpoints)) for _ in range(NODES)]
    nodes = [NodeHarness(store, f"node-{n}") for n, store in enumerate(stores)]
    for node in nodes:
        await node.__aenter__()
    await nodes[0].apply(pool("v4", "10.6.0.1-10.6.0.30"), pool("v6", "fd00:6::1-fd00:6::1e"))
    yield nodes
    for node, store in zip(nodes, stores, strict=True):
        await node.__aexit__(None, None, None)
        await store.close()


async def run_caller(node: NodeHarness, rng: random.Random) -> tuple[int, int]:
    """Run the operations of one caller; return how many succeeded and failed."""
    done = failed = 0
    for _ in range(OPERATIONS):
        who = pod(f"web-{rng.randrange(8)}", f"uid-{rng.randrange(24)}")
        try:
            async with asyncio.timeout(20):
                await (node.add(who) if rng.random() < 0.6 else node.delete(who))
            done += 1
        except (OrbweaverError, TimeoutError):
            failed += 1
    return done, failed


async def run_under_fault(
    etcd: EtcdCluster, seed: int, fault: Callable[[], None], repair: Callable[[], None]
) -> int:
    """Run the load through a fault and its repair, judge the log; how many operations succeeded."""
    async with three_nodes(etcd) as nodes:
        load = [
            asyncio.ensure_future(run_caller(node, random.Random(seed * 100 + n * 10 + caller)))
            for n, node in enumerate(nodes)
            for caller in range(CALLERS)
        ]
        while nodes[1].writer.transactions < 10:
            await asyncio.sleep(0.01)
        await asyncio.to_thread(fault)
        before = nodes[1].writer.transactions
        with suppress(TimeoutError):
            async with asyncio.timeout(3):
                while nodes[1].writer.transactions < before + 20:
                    await asyncio.sleep(0.01)
        await asyncio.to_thread(repair)
        results = await asyncio.gather(*load)
        async with NodeHarness(nodes[0].store, "judge") as judge:
            await check_everything(judge)
        return sum(done for done, _ in results)


@pytest.mark.parametrize("seed", [1, 2])
async def test_no_address_is_lost_or_doubled_when_a_single_etcd_is_killed_and_restarted(
    tmp_path: Path, seed: int
) -> None:
    with EtcdCluster(tmp_path) as etcd:
        member = etcd.members[0]
        done = await run_under_fault(etcd, seed, member.kill, lambda: etcd.restart(member))

        assert done > OPERATIONS


@pytest.mark.parametrize("seed", [3, 4])
async def test_no_address_is_lost_or_doubled_when_the_leader_of_three_is_killed(
    tmp_path: Path, seed: int
) -> None:
    with EtcdCluster(tmp_path, size=3) as etcd:
        leader = etcd.leader()
        done = await run_under_fault(etcd, seed, leader.kill, lambda: etcd.restart(leader))

        assert done > OPERATIONS


async def test_no_address_is_lost_or_doubled_when_a_member_that_does_not_lead_hangs(
    tmp_path: Path,
) -> None:
    with EtcdCluster(tmp_path, size=3) as etcd:
        leader = etcd.leader()
        paused_member = next(one for one in etcd.members if one is not leader)
        done = await run_under_fault(etcd, 5, paused_member.pause, paused_member.resume)

        assert done > OPERATIONS


async def test_no_address_is_lost_or_doubled_when_the_leader_hangs(tmp_path: Path) -> None:
    with EtcdCluster(tmp_path, size=3) as etcd:
        leader = etcd.leader()
        done = await run_under_fault(etcd, 6, leader.pause, leader.resume)

        assert done > OPERATIONS

"""An unreadable stored value does not stop other jobs."""

from __future__ import annotations

import pytest
import zstandard

from core.domain.configuration.commands import ApplyPool, RetirePool
from core.eventstore.keys import Keys
from core.eventstore.kv import Get, KeyValueStore, Put
from core.eventstore.memory_store import MemoryStore
from tests.support.node_harness import NodeHarness, pool
from tests.workflows.jobs.job_host_harness import JobHostHarness
from workflows.engine.store.keys import WorkflowKeys
from workflows.jobs.reclaim.scan import WORKFLOW_ID as SCAN_ID
from workflows.jobs.reclaim.scan_states import ScanStateRef, ScanStates

BLUE = ApplyPool(pool("blue", "10.6.0.1-10.6.0.9"))
RED = ApplyPool(pool("red", "10.6.1.1-10.6.1.9"))


async def _pools(node: NodeHarness) -> set[str]:
    return set((await node.read_ledger()).pools)


async def test_a_retirement_with_an_unreadable_execution_does_not_stop_another_retirement() -> None:
    store: KeyValueStore = MemoryStore()
    async with JobHostHarness(store) as hosts:
        await hosts.node.apply(BLUE, RED)
        key = hosts.client.keys.open("retire/pool/blue")
        await store.commit([], [Put(key, b"dust")])
        host = await hosts.start_controller("one")
        await hosts.node.apply(RetirePool("blue"))
        await hosts.node.apply(RetirePool("red"))

        async def red_is_gone() -> bool:
            return await _pools(hosts.node) == {"blue"}

        await hosts.until(red_is_gone)
        assert [fault.kind for fault in host.worker.faults] == ["open execution"]
        await hosts.check()


async def test_a_scan_with_an_unreadable_execution_does_not_stop_a_retirement() -> None:
    store: KeyValueStore = MemoryStore()
    async with JobHostHarness(store) as hosts:
        await store.commit([], [Put(WorkflowKeys(hosts.node.keys).open(SCAN_ID), b"dust")])
        await hosts.node.apply(BLUE)
        await hosts.start_controller("one")
        await hosts.node.apply(RetirePool("blue"))

        async def is_gone() -> bool:
            return not await _pools(hosts.node)

        await hosts.until(is_gone)
        head = (await store.read([Get(WorkflowKeys(hosts.node.keys).open(SCAN_ID))])).ranges[0]
        assert head.count == 1, "the unreadable value must stay"


@pytest.mark.parametrize(
    "value", [b"dust", zstandard.compress(b"dust"), zstandard.compress(b"\xff")]
)
async def test_an_unreadable_scan_state_is_read_as_empty(value: bytes) -> None:
    store, keys = MemoryStore(), Keys("test")
    for kind in ("sighting", "step"):  # observations, steps
        await store.commit([], [Put(keys.root + f"job/reclaim/one/{kind}/000000".encode(), value)])
    states = ScanStates(store, keys, ttl_s=60)
    state = ScanStateRef("one", lease=1, observation_parts=1, step_parts=1)

    assert await states.observations(state) == {}
    assert await states.steps(state, 0) is None

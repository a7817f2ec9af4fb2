"""A controller with all jobs releases the addresses of deleted Pods and nodes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from core.domain.configuration.commands import ApplyRecord, DeleteRecord
from core.domain.events import AddressesReleased, RecordDefined
from core.eventstore.kv import KeyValueStore
from tests.support.engine_harness import eventually
from tests.support.node_harness import NodeHarness, check_everything, pod, pool
from workflows.engine.client.visibility import Filter, Visibility
from workflows.engine.store.keys import WorkflowKeys
from workflows.engine.telemetry import Telemetry
from workflows.jobs.job_host import JobHost
from workflows.model.policies import ExecutionStatus


@asynccontextmanager
async def running_leader(
    node: NodeHarness, telemetry: Telemetry | None = None
) -> AsyncIterator[JobHost]:
    """Run a leading controller whose change listener has started."""
    host = JobHost(node.store, node.keys, "one", telemetry=telemetry)
    tasks = [asyncio.ensure_future(host.run()), asyncio.ensure_future(host.lead())]
    try:

        async def is_listening() -> bool:
            record = RecordDefined("Pod", "shop", "first")
            await node.apply(ApplyRecord(record), DeleteRecord("Pod", "shop", "first"))
            return host.listener.received > 0

        await node.add(pod("first"))
        await eventually(is_listening)
        yield host
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def pods_with_claims(node: NodeHarness) -> set[str]:
    return {claim.claim.pod for claim in (await node.read_ledger()).claims.values()}


async def test_a_deleted_pod_and_the_pods_of_a_deleted_node_lose_their_addresses(
    store: KeyValueStore,
) -> None:
    async with NodeHarness(store) as node, NodeHarness(store, "node-b") as node_b:
        await node.apply(pool("main", "10.6.0.10-10.6.0.200"))
        await node_b.view.freshen()
        for name in ("web-0", "web-1", "web-2"):
            await node.apply(ApplyRecord(RecordDefined("Pod", "shop", name)))
            await node_b.add(pod(name, node="node-b"))
        await node_b.add(pod("db-0", node="node-b", fixed="statefulset"))
        await node.add(pod("alive"))
        await node.apply(ApplyRecord(RecordDefined("Node", "", "node-b")))
        async with running_leader(node):
            await node.apply(DeleteRecord("Pod", "shop", "web-0"))

            async def has_no_address() -> bool:
                return "web-0" not in await pods_with_claims(node)

            await eventually(has_no_address)
            assert {"web-1", "web-2"} <= await pods_with_claims(node)
            await node.apply(DeleteRecord("Node", "", "node-b"))

            # db-0 on node-b keeps its address, because the address is fixed.
            async def only_the_others_have_addresses() -> bool:
                return await pods_with_claims(node) == {"alive", "db-0"}

            await eventually(only_the_others_have_addresses)
        visible = Visibility(store, WorkflowKeys(node.keys, "default"))
        ended = [
            head.workflow_id
            async for head in visible.heads(Filter("reclaim-pod", (ExecutionStatus.COMPLETED,)))
        ]
        assert "reclaim/shop/web-0/uid-web-0" in ended
        released = [
            recorded.event.evidence
            for recorded in await node.log()
            if isinstance(recorded.event, AddressesReleased)
        ]
        assert all(why.startswith("deleted: ") for why in released)
        await check_everything(node)

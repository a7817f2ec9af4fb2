"""Pods and retirements on a clock that skips waits, without controllers."""

from __future__ import annotations

from core.domain.configuration.commands import ApplySubnet, RetirePool, RetireSubnet
from core.domain.events import Event
from core.domain.model import Pool, Subnet
from core.eventstore.kv import KeyValueStore
from core.eventstore.memory_store import MemoryStore
from core.projections.projection import Projection
from tests.support.node_harness import NodeHarness, check_everything, pod, pool
from workflows.api.definitions import Registry
from workflows.jobs.retirement.activities import RetirementActivities
from workflows.jobs.retirement.pool import PoolRetirement
from workflows.jobs.retirement.required_retirements import required_retirements
from workflows.jobs.retirement.retirement_values import RetirementRequest, retirement_id
from workflows.jobs.retirement.subnet import SubnetRetirement
from workflows.jobs.shard_writers import ShardWriters
from workflows.model.payloads import Payload
from workflows.testing.environment import WorkflowEnvironment
from workflows.testing.handle import TimeSkippingHandle


class RetirementHarness:
    """A node with Pods, and the executions of retirements."""

    def __init__(self, store: KeyValueStore | None = None) -> None:
        self.node = NodeHarness(store or MemoryStore())
        self.writers = ShardWriters(self.node.store, self.node.keys)
        activities = RetirementActivities(self.node.store, self.node.keys, self.writers)
        registry = Registry(
            [PoolRetirement, SubnetRetirement], [activities.step, activities.reinstate]
        )
        self.environment = WorkflowEnvironment(registry, replays=True)

    async def create_subnet(self, *pools: Pool) -> None:
        await self.node.apply(create_net())
        await self.node.apply(*pools)

    async def add_pods(self, *names: str) -> None:
        for name in names:
            await self.node.add(pod(name))

    async def delete_pods(self, *names: str) -> None:
        """Delete Pods, then signal the retirements."""
        for name in names:
            await self.node.delete(pod(name))
        await self.signal_executions()

    async def retire(
        self, name: str, request: RetirementRequest | None = None
    ) -> TimeSkippingHandle:
        """Retire a pool, and run the first step."""
        await self.node.apply(RetirePool(name))
        return await self._start_execution(
            PoolRetirement, "pool", request or RetirementRequest(name)
        )

    async def retire_subnet(
        self, request: RetirementRequest = RetirementRequest("net")
    ) -> TimeSkippingHandle:
        await self.node.apply(RetireSubnet(request.name))
        return await self._start_execution(SubnetRetirement, "subnet", request)

    async def signal_executions(self) -> None:
        """Start and signal executions as the leading controller does.

        The execution of a subnet starts those of its pools.
        """
        for notice in required_retirements(Projection(await self.node.read_ledger())):
            if not await self.environment.is_open(notice.workflow_id):
                if not notice.starts:
                    continue
                await self.environment.start(
                    notice.workflow, *notice.arguments, workflow_id=notice.workflow_id
                )
            await self.environment.handle(notice.workflow_id).signal(notice.signal)

    async def status(self, handle: TimeSkippingHandle) -> dict[str, Payload]:
        status: dict[str, Payload] = await handle.query("status")
        return status

    async def is_retiring_by_pool(self) -> dict[str, bool]:
        return {name: pool.retiring for name, pool in (await self.node.read_ledger()).pools.items()}

    async def count_events(self, kind: type[Event]) -> int:
        return sum(isinstance(recorded.event, kind) for recorded in await self.node.log())

    async def check(self) -> None:
        await check_everything(self.node)

    async def close(self) -> None:
        await self.environment.close()
        await self.writers.close()
        await self.node.__aexit__(None, None, None)

    async def _start_execution(
        self, workflow: type, kind: str, request: RetirementRequest
    ) -> TimeSkippingHandle:
        workflow_id = retirement_id(kind, request.name)  # type: ignore[arg-type]
        handle = await self.environment.start(workflow, request, workflow_id=workflow_id)
        await self.environment.settle()
        return handle


def create_net() -> ApplySubnet:
    """The command that creates the subnet ``net``."""
    return ApplySubnet(Subnet("net", 4, "10.6.0.0/16", ("10.6.0.1-10.6.9.250",)))


def blue_pool() -> Pool:
    """The default pool, from which Pods get addresses."""
    return pool("blue", "10.6.0.10-10.6.0.20", subnet="10.6.0.0/16")


def red_pool() -> Pool:
    """A pool of the subnet ``net`` from which no Pod gets an address."""
    return pool("red", "10.6.1.10-10.6.1.20", subnet="10.6.0.0/16", default=False)

"""A node, a provider, and the workflow that binds addresses, on a clock that skips waits."""

from __future__ import annotations

from core.allocation.bindings import BindingRequest
from core.allocation.provider_settings import ProviderSettings
from core.domain.model import Endpoint
from core.domain.provider.provider_nics import addresses_of
from core.eventstore.codec import ENDPOINT_CODEC
from core.eventstore.kv import Get
from core.eventstore.memory_store import MemoryStore
from tests.support.node_harness import NodeHarness, check_everything, pod, pool
from tests.workflows.jobs.provider.fake_provider import FakeProvider
from workflows.api.definitions import Registry
from workflows.jobs.provider.activities import ProviderActivities, ProviderRelease
from workflows.jobs.provider.binding import GIVE_BACK, ExternalBinding
from workflows.jobs.provider.client import ProviderClient
from workflows.jobs.shard_writers import ShardWriters
from workflows.testing import TimeSkippingHandle, WorkflowEnvironment

PARENT_MACS = {"eth0": "0c:00:00:00:00:01", "net1": "0c:00:00:00:00:02"}
"""Interface of a Pod -> MAC address of the parent NIC."""

REQUEST_S = 20.0
"""The timeout of a request in real time; long enough for a busy machine."""

SILENT_REQUEST_S = 0.2
"""The timeout of a request to a provider that does not respond."""


class BindingHarness:
    """Pods with claimed addresses, and the executions that bind the addresses."""

    def __init__(
        self,
        provider: FakeProvider,
        node: NodeHarness,
        *,
        replays: bool = True,
        request_s: float = REQUEST_S,
    ) -> None:
        self.provider = provider
        self.node = node
        self.client = ProviderClient(
            ProviderSettings(provider.url, request_s), now_s=lambda: self.env.now_ms / 1000
        )
        self.writers = ShardWriters(node.store, node.keys)
        activities = ProviderActivities(
            node.store, node.keys, self.writers, self.client, cool_down_s=0
        )
        self.env = WorkflowEnvironment(Registry([ExternalBinding], activities.all), replays=replays)

    async def claim(self, *interfaces: str, name: str = "web") -> Endpoint:
        """Run an ADD for each interface, by default eth0."""
        added = [await self.node.add(pod(name), interface) for interface in interfaces or ("eth0",)]
        return added[-1].endpoint

    async def binding_request(self, endpoint: Endpoint, wait_s: float = 100.0) -> BindingRequest:
        addresses = sorted(address for address, _ in endpoint.addresses())
        gets = [Get(self.node.keys.ip_of(address)) for address in addresses]
        ranges = (await self.node.store.read(gets)).ranges
        claims = tuple(
            (address, claim.kvs[0].mod_revision)
            for address, claim in zip(addresses, ranges, strict=True)
        )
        deadline_ms = self.env.now_ms + round(wait_s * 1000)
        addresses_to_bind = addresses_of(endpoint, PARENT_MACS)
        return BindingRequest(
            namespace=endpoint.namespace,
            endpoint=endpoint.name,
            pod=endpoint.name,
            uid=endpoint.uid,
            node=endpoint.node,
            addresses=addresses_to_bind,
            claims=claims,
            deadline_ms=deadline_ms,
        )

    async def start(self, request: BindingRequest) -> TimeSkippingHandle:
        return await self.env.start(ExternalBinding, request, workflow_id=request.workflow_id)

    async def request_release(
        self, request: BindingRequest, evidence: str = "CNI DEL"
    ) -> TimeSkippingHandle:
        """Signal the execution to release its addresses; start it if it is not open."""
        release = ProviderRelease(request, reason="deleted", evidence=evidence)
        await self.env.client.signal_with_start(
            ExternalBinding,
            request,
            id=request.workflow_id,
            signal=GIVE_BACK,
            signal_args=(release,),
        )
        await self.env.settle()
        return self.env.handle(request.workflow_id)

    async def endpoint(self, name: str = "web") -> Endpoint | None:
        ranges = (await self.node.store.read([Get(self.node.keys.endpoint("shop", name))])).ranges
        return ENDPOINT_CODEC.decode(ranges[0].kvs[0].value) if ranges[0].kvs else None

    async def claimed(self) -> set[str]:
        return set((await self.node.read_ledger()).claims)

    async def check(self) -> None:
        """Assert that exactly the claimed addresses are bound."""
        assert set(self.provider.bound) == await self.claimed()
        await check_everything(self.node)

    async def close(self) -> None:
        await self.env.close()
        await self.client.close()
        await self.writers.close()


async def open_node() -> NodeHarness:
    """A node with a pool. The caller closes the node with ``__aexit__``."""
    node = await NodeHarness(MemoryStore(), cool_down_s=0).__aenter__()
    await node.apply(pool("lan", "10.6.0.10-10.6.0.20"))
    return node

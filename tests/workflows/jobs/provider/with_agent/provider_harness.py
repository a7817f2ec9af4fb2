"""An agent with controllers and a provider."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from typing import Any, TypeVar

from core.allocation.bindings import BindingStore, StoredBinding
from core.allocation.provider_settings import ProviderSettings
from core.domain.provider.provider_nics import NicConfiguration
from core.domain.reclaim.settings import ReclaimSettings
from core.domain.request_facts import PodFacts
from nodeagent.handlers.provider_binding import BindingAllocator, Times
from tests.support.agent_harness import AgentHarness
from tests.support.http_caller import over_socket
from tests.workflows.jobs.provider.fake_provider import FakeProvider
from workflows.engine.telemetry import Telemetry, TracerProvider
from workflows.jobs.job_host import JobHost, JobSettings

DEADLINE_S = 60.0

PARENT_MAC = "0c:00:00:00:00:01"

T = TypeVar("T")


class ConfiguredNetworks:
    """The vlan networks of Pods. ``modes``: interface -> vlanMode."""

    def __init__(self, modes: Mapping[str, str]) -> None:
        self.modes = dict(modes)

    def nics(self, pod: PodFacts, interfaces: tuple[str, ...]) -> tuple[NicConfiguration, ...]:
        return tuple(
            NicConfiguration(interface, "vlan", self.modes[interface], PARENT_MAC)
            for interface in interfaces
            if interface in self.modes
        )


class ProviderHarness:
    """An agent, controllers and a provider. Close ``cleanup_stack`` to stop the controllers."""

    def __init__(
        self,
        agent: AgentHarness,
        provider: FakeProvider,
        networks: ConfiguredNetworks | None = None,
    ) -> None:
        self.node = agent
        self.provider = provider
        self.networks = networks or ConfiguredNetworks({})
        self.cleanup_stack = AsyncExitStack()
        self._hosts: dict[str, tuple[JobHost, list[asyncio.Task[None]]]] = {}

    async def start_controller(
        self, name: str = "controller-0", tracers: TracerProvider | None = None
    ) -> Callable[[], Awaitable[None]]:
        """Start a leading controller; return a function that stops it."""
        settings = JobSettings(
            ReclaimSettings(enabled=False),
            provider=ProviderSettings(self.provider.url, request_timeout_s=5.0),
            cool_down_s=0,
        )
        host = JobHost(
            self.node.store, self.node.keys, name, settings, telemetry=Telemetry(tracers=tracers)
        )
        tasks = [asyncio.create_task(host.run()), asyncio.create_task(host.lead())]
        self._hosts[name] = host, tasks

        async def end() -> None:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        self.cleanup_stack.push_async_callback(end)
        return end

    async def kill_controller(self, name: str = "controller-0") -> None:
        """Crash a controller. Its lease expires immediately."""
        host, tasks = self._hosts[name]
        term = host.worker.term
        await host.worker.abandon()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if term is not None:
            await self.node.store.revoke_lease(term.session.lease)

    def set_bind_timeout(self, bind_s: float) -> None:
        """Set the seconds that an ADD waits for the provider."""
        allocator = getattr(self.node.process.parts.handlers.add._allocate, "__self__", None)
        assert isinstance(allocator, BindingAllocator)
        allocator._times = Times(bind_s)

    async def stored_binding(self, pod: str = "web-0") -> StoredBinding:
        return await BindingStore(self.node.store, self.node.keys).find(("shop", pod))

    async def workload_endpoint(self, pod: str = "web-0") -> Any:
        path = f"/v1/workloadendpoint?podNamespace=shop&podName={pod}"
        return (await over_socket(self.node.process.settings.socket_path, "GET", path)).json

    async def everything_is_released(self) -> bool:
        stored = await self.stored_binding()
        return not (self.provider.bound or await self.node.claims() or stored.binding)


async def eventually(condition: Callable[[], Awaitable[T]]) -> T:
    async with asyncio.timeout(DEADLINE_S):
        while not (result := await condition()):
            await asyncio.sleep(0.01)
    return result

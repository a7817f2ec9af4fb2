"""An agent on etcd and a provider on loopback."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from core.eventstore.etcd import EtcdStore
from nodeagent.settings.agent_settings import Settings
from tests.support.agent_harness import running
from tests.workflows.jobs.provider.fake_provider import FakeProvider
from tests.workflows.jobs.provider.with_agent.provider_harness import (
    ConfiguredNetworks,
    ProviderHarness,
)


@pytest.fixture
async def harness(etcd_store: EtcdStore, settings: Settings) -> AsyncIterator[ProviderHarness]:
    """A provider that binds eth0, and no controller."""
    networks = ConfiguredNetworks({"eth0": "auto"})
    settings = settings._replace(cool_down_s=0)
    async with FakeProvider() as provider, running(settings, etcd_store, networks=networks) as node:
        await node.pool("lan", "10.6.0.0/16", "10.6.0.10-10.6.0.20")
        harness = ProviderHarness(node, provider, networks)
        yield harness
        await harness.cleanup_stack.aclose()

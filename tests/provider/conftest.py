"""One etcd for the folder; each test has a cluster name, an agent and a provider of its own."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator

import pytest

from core.eventstore.etcd import EtcdSettings, EtcdStore
from nodeagent.settings.values import Settings
from tests.agent.conftest import settings as settings  # noqa: PLC0414  # a fixture
from tests.agent.conftest import short_path as short_path  # noqa: PLC0414  # a fixture
from tests.agent.node import running
from tests.provider.town import ConfiguredNetworks, ProviderHarness
from tests.support.etcd import EtcdCluster
from tests.workflows.external.fake_provider import FakeProvider


@pytest.fixture(scope="session")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdCluster]:
    with EtcdCluster(tmp_path_factory.mktemp("etcd")) as cluster:
        yield cluster


@pytest.fixture
async def harness(etcd: EtcdCluster, settings: Settings) -> AsyncIterator[ProviderHarness]:
    """eth0 takes part; there is a pool and no controller yet."""
    store = EtcdStore(EtcdSettings(etcd.endpoints))
    networks = ConfiguredNetworks({"eth0": "auto"})
    mine = settings._replace(cluster=f"c{os.urandom(4).hex()}", cool_down_s=0)
    async with FakeProvider() as provider, running(mine, store, networks=networks) as node:
        await node.pool("lan", "10.6.0.0/16", "10.6.0.10-10.6.0.20")
        one = ProviderHarness(node, provider, networks)
        yield one
        await one.ends.aclose()
    await store.close()

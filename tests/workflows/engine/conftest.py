"""Both stores for every test of the engine, each with keys of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from core.eventstore.etcd import EtcdSettings, EtcdStore
from core.eventstore.kv import KeyValueStore
from core.eventstore.memory import MemoryStore
from tests.support.etcd import EtcdCluster
from tests.workflows.engine.stage import EngineHarness


@pytest.fixture(scope="session")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdCluster]:
    with EtcdCluster(tmp_path_factory.mktemp("etcd")) as cluster:
        yield cluster


@pytest.fixture(params=["memory", pytest.param("etcd", marks=pytest.mark.etcd)])
async def engine(request: pytest.FixtureRequest) -> AsyncIterator[EngineHarness]:
    store: KeyValueStore
    if request.param == "memory":
        store = MemoryStore()
    else:
        cluster: EtcdCluster = request.getfixturevalue("etcd")
        store = EtcdStore(EtcdSettings(cluster.endpoints))
    engine = EngineHarness(store)
    yield engine
    executions, wrong = await engine.check()
    await engine.close()
    await store.close()
    assert not wrong, f"{len(wrong)} violations in {executions} executions"

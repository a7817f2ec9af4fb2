"""Both stores for every test of the engine, each with keys of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from core.eventstore.etcd import EtcdSettings, EtcdStore
from core.eventstore.kv import KeyValueStore
from core.eventstore.memory import MemoryStore
from tests.support.etcd import EtcdCluster
from tests.workflows.engine.stage import Stage


@pytest.fixture(scope="session")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdCluster]:
    with EtcdCluster(tmp_path_factory.mktemp("etcd")) as cluster:
        yield cluster


@pytest.fixture(params=["memory", pytest.param("etcd", marks=pytest.mark.etcd)])
async def stage(request: pytest.FixtureRequest) -> AsyncIterator[Stage]:
    store: KeyValueStore
    if request.param == "memory":
        store = MemoryStore()
    else:
        cluster: EtcdCluster = request.getfixturevalue("etcd")
        store = EtcdStore(EtcdSettings(cluster.endpoints))
    stage = Stage(store)
    yield stage
    executions, wrong = await stage.check()
    await stage.close()
    await store.close()
    assert not wrong, f"{len(wrong)} violations in {executions} executions"

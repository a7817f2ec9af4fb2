"""One etcd for the tests of this folder; each test has a cluster name of its own."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from core.eventstore.etcd import EtcdSettings, EtcdStore
from core.eventstore.keys import Keys
from core.eventstore.kv import KeyValueStore
from core.eventstore.memory import MemoryStore
from tests.support.etcd import EtcdCluster

_numbers = itertools.count()


@pytest.fixture(scope="session")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdCluster]:
    with EtcdCluster(Path(tmp_path_factory.mktemp("etcd"))) as cluster:
        yield cluster


@pytest.fixture
def cluster_name() -> str:
    return f"controller-{next(_numbers)}"


@pytest.fixture
def keys(cluster_name: str) -> Keys:
    return Keys(cluster_name)


@pytest.fixture(params=["memory", pytest.param("etcd", marks=pytest.mark.etcd)])
async def store(request: pytest.FixtureRequest) -> AsyncIterator[KeyValueStore]:
    if request.param == "memory":
        yield MemoryStore()
        return
    cluster: EtcdCluster = request.getfixturevalue("etcd")
    one = EtcdStore(EtcdSettings(cluster.endpoints))
    yield one
    await one.close()

"""Both stores: the one in memory, and a real etcd that these tests share."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Iterator

import pytest

from core.eventstore.etcd import EtcdSettings, EtcdStore
from core.eventstore.kv import KeyValueStore
from core.eventstore.memory import MemoryStore
from tests.support.etcd import EtcdCluster
from tests.support.nodes import NodeHarness

_numbers = itertools.count()


@pytest.fixture(scope="session")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdCluster]:
    with EtcdCluster(tmp_path_factory.mktemp("etcd")) as cluster:
        yield cluster


@pytest.fixture(params=["memory", pytest.param("etcd", marks=pytest.mark.etcd)])
async def store(request: pytest.FixtureRequest) -> AsyncIterator[KeyValueStore]:
    if request.param == "memory":
        yield MemoryStore()
        return
    etcd: EtcdCluster = request.getfixturevalue("etcd")
    real = EtcdStore(EtcdSettings(etcd.endpoints))
    yield real
    await real.close()


@pytest.fixture
async def one(store: KeyValueStore) -> AsyncIterator[NodeHarness]:
    """A node of a cluster of its own."""
    async with NodeHarness(store, cluster=f"fixed-{next(_numbers)}") as node:
        yield node

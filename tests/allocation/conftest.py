"""The stores that allocation is tried on: every behaviour on both."""

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


@pytest.fixture
def cluster() -> str:
    """A cluster name of its own for every test."""
    return f"test-{next(_numbers)}"


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
async def node(store: KeyValueStore, cluster: str) -> AsyncIterator[NodeHarness]:
    async with NodeHarness(store, cluster=cluster) as one:
        yield one

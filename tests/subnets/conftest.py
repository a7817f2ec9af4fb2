"""Both stores: the one in memory, and a real etcd that these tests share."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Iterator

import pytest

from core.eventstore.etcd import EtcdSettings, EtcdStore
from core.eventstore.kv import KeyValueStore
from core.eventstore.memory import MemoryStore
from tests.support.etcd import EtcdCluster

_numbers = itertools.count()


@pytest.fixture(scope="session")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdCluster]:
    with EtcdCluster(tmp_path_factory.mktemp("etcd")) as cluster:
        yield cluster


@pytest.fixture
def cluster() -> str:
    """A cluster name of its own for every test."""
    return f"subnets-{next(_numbers)}"


@pytest.fixture(params=["memory", pytest.param("etcd", marks=pytest.mark.etcd)])
async def store(request: pytest.FixtureRequest) -> AsyncIterator[KeyValueStore]:
    if request.param == "memory":
        yield MemoryStore()
        return
    etcd: EtcdCluster = request.getfixturevalue("etcd")
    real = EtcdStore(EtcdSettings(etcd.endpoints))
    yield real
    await real.close()

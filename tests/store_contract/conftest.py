"""The stores that must keep the contract, each with keys of its own for every test."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Iterator

import pytest

from core.eventstore.etcd import EtcdSettings, EtcdStore
from core.eventstore.memory import MemoryStore
from tests.store_contract.subject import HandClock, Subject
from tests.support.etcd import EtcdCluster

_numbers = itertools.count()


@pytest.fixture(scope="session")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdCluster]:
    with EtcdCluster(tmp_path_factory.mktemp("etcd")) as cluster:
        yield cluster


@pytest.fixture(params=["memory", pytest.param("etcd", marks=pytest.mark.etcd)])
async def subject(request: pytest.FixtureRequest) -> AsyncIterator[Subject]:
    prefix = f"/contract/{next(_numbers)}/".encode()
    if request.param == "memory":
        clock = HandClock()
        yield Subject(MemoryStore(clock), prefix, clock)
        return
    cluster: EtcdCluster = request.getfixturevalue("etcd")
    store = EtcdStore(EtcdSettings(cluster.endpoints))
    yield Subject(store, prefix)
    await store.close()

"""A real etcd cluster for each test; a test may damage the cluster."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from core.eventstore.etcd import EtcdSettings, EtcdStore
from tests.support.etcd import EtcdCluster

OpenStore = Callable[[EtcdSettings], EtcdStore]


@pytest.fixture
def one_member_etcd(tmp_path: Path) -> Iterator[EtcdCluster]:
    with EtcdCluster(tmp_path) as cluster:
        yield cluster


@pytest.fixture
def three_member_etcd(tmp_path: Path) -> Iterator[EtcdCluster]:
    with EtcdCluster(tmp_path, size=3) as cluster:
        yield cluster


@pytest.fixture
async def open_store() -> AsyncIterator[OpenStore]:
    """A function that opens stores; the fixture closes the stores."""
    stores: list[EtcdStore] = []

    def open_one(settings: EtcdSettings) -> EtcdStore:
        stores.append(EtcdStore(settings))
        return stores[-1]

    yield open_one
    for store in stores:
        await store.close()

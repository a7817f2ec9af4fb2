"""A stage for every test; at its end the log must keep every invariant. And both stores."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from core.eventstore.etcd import EtcdSettings, EtcdStore
from core.eventstore.kv import KeyValueStore
from core.eventstore.memory import MemoryStore
from tests.support.etcd import EtcdCluster
from tests.workflows.jobs.stage import ReclaimJobHarness


@pytest.fixture
async def harness() -> AsyncIterator[ReclaimJobHarness]:
    harness = ReclaimJobHarness()
    await harness.script(
        """
        pool main 10.6.0.11-10.6.0.60
        node n1 n3
        pod kube/controller uid=c add=no
        """
    )
    yield harness
    await harness.check()
    await harness.close()


@pytest.fixture
def etcd(tmp_path: Path) -> Iterator[EtcdCluster]:
    with EtcdCluster(tmp_path) as cluster:
        yield cluster


@pytest.fixture(params=["memory", pytest.param("etcd", marks=pytest.mark.etcd)])
async def store(request: pytest.FixtureRequest) -> AsyncIterator[KeyValueStore]:
    """An empty store of its own for each test."""
    if request.param == "memory":
        yield MemoryStore()
        return
    cluster: EtcdCluster = request.getfixturevalue("etcd")
    one = EtcdStore(EtcdSettings(cluster.endpoints))
    yield one
    await one.close()

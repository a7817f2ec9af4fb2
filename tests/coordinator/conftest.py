"""A world a test, and a node in it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.coordinator.world import NetworkHarness, NetworkNode, NetworkPod
from tests.support.parts import require_namespaces


@pytest.fixture
def network(tmp_path: Path) -> Iterator[NetworkHarness]:
    require_namespaces()
    made = NetworkHarness(tmp_path)
    yield made
    made.close()


@pytest.fixture
def node(network: NetworkHarness) -> NetworkNode:
    return network.node()


@pytest.fixture
def pod(network: NetworkHarness, node: NetworkNode) -> NetworkPod:
    """A Pod with a macvlan eth0 of both families, not set up by the coordinator yet."""
    made = network.pod(node)
    made.macvlan("eth0", "10.6.0.101/24", "fd00:6::101/64")
    return made

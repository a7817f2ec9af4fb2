"""A world a test, and a node in it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.coordinator.world import Node, Pod, World
from tests.support.parts import require_namespaces


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    require_namespaces()
    made = World(tmp_path)
    yield made
    made.close()


@pytest.fixture
def node(world: World) -> Node:
    return world.node()


@pytest.fixture
def pod(world: World, node: Node) -> Pod:
    """A Pod with a macvlan eth0 of both families, not set up by the coordinator yet."""
    made = world.pod(node)
    made.macvlan("eth0", "10.6.0.101/24", "fd00:6::101/64")
    return made

"""The coordinator's world: nodes, Pods, a router, an outside host."""

from __future__ import annotations

from tests.coordinator.conftest import network as network  # noqa: PLC0414  # a fixture
from tests.coordinator.conftest import node as node  # noqa: PLC0414  # a fixture
from tests.coordinator.conftest import pod as pod  # noqa: PLC0414  # a fixture

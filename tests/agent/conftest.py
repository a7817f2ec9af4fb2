"""An agent over the memory store with its real sockets, and callers that speak raw bytes to it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from core.eventstore.memory import MemoryStore
from nodeagent.settings.values import Settings
from tests.agent.node import AgentHarness, ManualClock, running


@pytest.fixture
def short_path() -> Iterator[Path]:
    """Paths of sockets have 107 bytes; pytest's own directories may be longer."""
    path = Path(tempfile.mkdtemp(prefix="ow-"))
    yield path
    shutil.rmtree(path)


@pytest.fixture
def settings(short_path: Path) -> Settings:
    return Settings(
        node_name="node-1",
        socket_path=str(short_path / "a.sock"),
        health_port=0,
        metrics_port=0,
        plugin_log_path=str(short_path / "plugin.log"),
    )


@pytest.fixture
async def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def agent(
    settings: Settings, store: MemoryStore, clock: ManualClock
) -> AsyncIterator[AgentHarness]:
    async with running(settings, store, monotonic=clock) as agent:
        yield agent

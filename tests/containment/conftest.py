"""Settings of an agent over a store in memory, with its real sockets."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from nodeagent.settings.values import Settings


@pytest.fixture
def settings() -> Iterator[Settings]:
    """Paths of sockets have 107 bytes; pytest's own directories may be longer."""
    path = Path(tempfile.mkdtemp(prefix="ow-"))
    yield Settings(
        node_name="node-1",
        socket_path=str(path / "a.sock"),
        health_port=0,
        metrics_port=0,
        metrics_enabled=True,
        plugin_log_path=str(path / "plugin.log"),
    )
    shutil.rmtree(path)

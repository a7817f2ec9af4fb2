"""An executable installed in a directory of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cni.plugin import LOGS, Spiderpool


@pytest.fixture
def spiderpool(short_path: Path) -> Iterator[Spiderpool]:
    """The installed executable; the logs that it leaves where no agent could log go."""
    yield Spiderpool(short_path)
    for log in LOGS.glob(f"{short_path.name}-*.log"):
        log.unlink()

"""The fixture ``spiderpool``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cni.plugin import LOG_FOLDER, Spiderpool


@pytest.fixture
def spiderpool(short_path: Path) -> Iterator[Spiderpool]:
    """The executable in a new directory; its log files are deleted after the test."""
    yield Spiderpool(short_path)
    for log in LOG_FOLDER.glob(f"{short_path.name}-*.log"):
        log.unlink()

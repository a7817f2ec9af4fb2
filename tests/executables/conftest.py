"""Fixtures of the executables: a directory with a short name and an executable installed in it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.executables.plugin import LOGS, Spiderpool


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A directory whose name leaves room in the 107 bytes of a socket's path."""
    directory = Path(tempfile.mkdtemp(prefix="cni-"))
    yield directory
    shutil.rmtree(directory)
    for log in LOGS.glob(f"{directory.name}-*.log"):
        log.unlink()


@pytest.fixture
def spiderpool(short_path: Path) -> Spiderpool:
    return Spiderpool(short_path)

"""A cluster on the memory store for each test, and its archive directory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.archive.living import ArchivedCluster, archived_cluster


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[ArchivedCluster]:
    async with archived_cluster(tmp_path / "archive") as one:
        yield one

"""A cluster on the memory store for each test, and its archive directory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.archive.living import Cluster, cluster


@pytest.fixture
async def town(tmp_path: Path) -> AsyncIterator[Cluster]:
    async with cluster(tmp_path / "archive") as one:
        yield one

"""A detector of address conflicts."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from nodeagent.conflict_detection.detector import Detector
from nodeagent.netlink.namespaces import NetnsExecutor


@pytest.fixture
async def detector(executor: NetnsExecutor) -> AsyncIterator[Detector]:
    detector = Detector(executor)
    yield detector
    await detector.close()

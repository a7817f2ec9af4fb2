"""A link with stations on it, and a detector."""

from __future__ import annotations

import os
import subprocess
from collections.abc import AsyncIterator, Iterator

import pytest

from nodeagent.conflict_detection.detector import Detector
from nodeagent.netlink.namespaces import NetnsExecutor
from tests.support.link import Link

TOOLS_ONLY = "network namespaces need root and iproute2"


@pytest.fixture(scope="session")
def possible() -> None:
    tried = subprocess.run(["ip", "netns", "list"], capture_output=True, check=False)
    if os.geteuid() or tried.returncode:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(TOOLS_ONLY)


@pytest.fixture
def link(possible: None) -> Iterator[Link]:
    made = Link()
    yield made
    made.remove()


@pytest.fixture
async def detector() -> AsyncIterator[Detector]:
    executor = NetnsExecutor()
    made = Detector(executor)
    yield made
    await made.close()
    executor.close()

"""Runs detectors on nodes that are network namespaces."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from nodeagent.conflict_detection.detector import Detector
from nodeagent.netlink.namespaces import NetnsExecutor, NetworkNamespace
from tests.support.link import Station


@asynccontextmanager
async def detecting_on(node: Station) -> AsyncIterator[Detector]:
    test_executor = NetnsExecutor()
    with NetworkNamespace.open(node.netns) as namespace:
        # The executor must be created in the network namespace of the node.
        executor = test_executor.run(namespace, NetnsExecutor)
    detector = Detector(executor)
    try:
        yield detector
    finally:
        await detector.close()
        executor.close()
        test_executor.close()

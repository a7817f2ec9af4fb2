"""A projector that follows the log while a test runs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from core.projections.projector import Projector
from tests.support.node_harness import NodeHarness

DEADLINE_S = 60


class RunningProjector:
    """A projector that runs, and a way to wait for what it must come to see."""

    def __init__(self, projector: Projector) -> None:
        self.projector = projector

    async def until(self, condition: Callable[[], bool]) -> None:
        """Return once the condition holds; fails after ``DEADLINE_S``."""
        async with asyncio.timeout(DEADLINE_S):
            await self.projector.wait_for(condition)

    async def level_with(self, node: NodeHarness) -> None:
        """Return once everything this node has written was seen."""
        position = (await node.truth()).position
        await self.until(lambda: self.projector.cursor.position >= position)


@asynccontextmanager
async def run_projector(projector: Projector) -> AsyncIterator[RunningProjector]:
    """The projector, run until the block ends."""
    task = asyncio.create_task(projector.run())
    try:
        running = RunningProjector(projector)
        await running.until(lambda: projector.ready)
        yield running
    finally:
        task.cancel()
        await asyncio.wait({task})


@asynccontextmanager
async def following(node: NodeHarness) -> AsyncIterator[RunningProjector]:
    """A new projector over the node's store, run until the block ends."""
    async with run_projector(Projector(node.store, node.keys)) as running:
        yield running

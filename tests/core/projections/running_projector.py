"""A projector that follows the log while a test runs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from core.projections.projector import Projector
from tests.support.node_harness import NodeHarness

DEADLINE_S = 60


class RunningProjector:
    """Lets a test wait for conditions of a projector that runs."""

    def __init__(self, projector: Projector) -> None:
        self.projector = projector

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for the condition; raises TimeoutError after ``DEADLINE_S``."""
        async with asyncio.timeout(DEADLINE_S):
            await self.projector.wait_for(condition)

    async def wait_until_current(self, node: NodeHarness) -> None:
        """Wait until the projector has read the whole log."""
        position = (await node.read_ledger()).position
        await self.until(lambda: self.projector.cursor.position >= position)


@asynccontextmanager
async def run_projector(projector: Projector) -> AsyncIterator[RunningProjector]:
    task = asyncio.create_task(projector.run())
    try:
        running = RunningProjector(projector)
        await running.until(lambda: projector.ready)
        yield running
    finally:
        task.cancel()
        await asyncio.wait({task})


@asynccontextmanager
async def run_new_projector(node: NodeHarness) -> AsyncIterator[RunningProjector]:
    """Run a new projector on the node's store."""
    async with run_projector(Projector(node.store, node.keys)) as running:
        yield running

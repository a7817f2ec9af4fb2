"""A memory store with a node that writes to it, and a projector that follows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from core.eventstore.memory import MemoryStore
from core.projections.projector import Projector
from tests.support.nodes import NodeHarness

PATIENCE_S = 60


class RunningProjector:
    """A projector that runs, and a way to wait for what it must come to see."""

    def __init__(self, projector: Projector) -> None:
        self.projector = projector

    async def until(self, condition: Callable[[], bool]) -> None:
        """Return once the condition holds; fails after ``PATIENCE_S``."""
        async with asyncio.timeout(PATIENCE_S):
            await self.projector.wait_for(condition)

    async def level_with(self, node: NodeHarness) -> None:
        """Return once everything this node has written was seen."""
        position = (await node.truth()).position
        await self.until(lambda: self.projector.cursor.position >= position)


@asynccontextmanager
async def running(projector: Projector) -> AsyncIterator[RunningProjector]:
    """The projector, run until the block ends."""
    task = asyncio.create_task(projector.run())
    try:
        one = RunningProjector(projector)
        await one.until(lambda: projector.ready)
        yield one
    finally:
        task.cancel()
        await asyncio.wait({task})


@asynccontextmanager
async def following(node: NodeHarness) -> AsyncIterator[RunningProjector]:
    """A new projector over the node's store, run until the block ends."""
    async with running(Projector(node.store, node.keys)) as one:
        yield one


@pytest.fixture
async def node() -> AsyncIterator[NodeHarness]:
    async with NodeHarness(MemoryStore()) as one:
        yield one

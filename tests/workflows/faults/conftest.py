"""A stage for faults, judged at the end of every test."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from core.eventstore.memory import MemoryStore
from tests.support.counters import Counters
from tests.workflows.engine.stage import Stage


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    stage = Stage(MemoryStore())
    yield stage
    await judge(stage)
    await stage.close()


async def judge(stage: Stage) -> None:
    """Count, and fail on any violation."""
    executions, wrong = await stage.check()
    Counters.executions += executions
    Counters.violations += len(wrong)
    assert not wrong, f"{len(wrong)} violations in {executions} executions"

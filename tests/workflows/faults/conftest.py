"""The fixture ``engine`` checks the histories of all executions after every test."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from core.eventstore.memory_store import MemoryStore
from tests.support.counters import Counters
from tests.support.engine_harness import EngineHarness


@pytest.fixture
async def engine() -> AsyncIterator[EngineHarness]:
    engine = EngineHarness(MemoryStore())
    yield engine
    await check_histories(engine)
    await engine.close()


async def check_histories(engine: EngineHarness) -> None:
    executions, violations = await engine.find_violations()
    Counters.executions += executions
    Counters.violations += len(violations)
    assert not violations, f"{len(violations)} violations in {executions} executions"

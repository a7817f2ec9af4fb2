"""A retirement harness that is checked after every test."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.workflows.jobs.retirement.retirement_harness import RetirementHarness


@pytest.fixture
async def harness() -> AsyncIterator[RetirementHarness]:
    harness = RetirementHarness()
    await harness.node.__aenter__()
    await harness.environment.open()
    yield harness
    await harness.check()
    await harness.close()

"""A stage for every test; at its end the log must keep every invariant."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.workflows.jobs.retirement.stage import Stage


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    stage = Stage()
    await stage.node.__aenter__()
    await stage.environment.open()
    yield stage
    await stage.check()
    await stage.close()

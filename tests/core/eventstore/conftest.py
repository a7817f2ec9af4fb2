"""A writer on a memory store with simulated faults."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.core.eventstore.writer_harness import WriterHarness


@pytest.fixture
async def harness() -> AsyncIterator[WriterHarness]:
    harness = WriterHarness()
    await harness.writer.open()
    yield harness
    await harness.writer.close()

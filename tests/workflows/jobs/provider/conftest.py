"""A provider on loopback and a scene around it; every test ends with the books in order."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.workflows.jobs.provider.binding_harness import BindingHarness, town
from tests.workflows.jobs.provider.fake_provider import FakeProvider


@pytest.fixture
async def harness() -> AsyncIterator[BindingHarness]:
    node = await town()
    async with FakeProvider() as provider:
        harness = BindingHarness(provider, node)
        await harness.env.open()
        yield harness
        await harness.check()
        await harness.close()
    await node.__aexit__(None, None, None)

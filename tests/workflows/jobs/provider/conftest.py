"""A node and a provider on loopback."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.workflows.jobs.provider.binding_harness import REQUEST_S, BindingHarness, open_node
from tests.workflows.jobs.provider.fake_provider import FakeProvider


@pytest.fixture
def request_s() -> float:
    """The timeout of a request. Some tests override this fixture by a parameter."""
    return REQUEST_S


@pytest.fixture
async def harness(request_s: float) -> AsyncIterator[BindingHarness]:
    node = await open_node()
    async with FakeProvider() as provider:
        harness = BindingHarness(provider, node, request_s=request_s)
        await harness.env.open()
        yield harness
        await harness.check()
        await harness.close()
    await node.__aexit__(None, None, None)

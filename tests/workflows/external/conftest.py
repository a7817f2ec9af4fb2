"""A provider on loopback and a scene around it; every test ends with the books in order."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.workflows.external.fake_provider import FakeProvider
from tests.workflows.external.stage import Scene, town


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    node = await town()
    async with FakeProvider() as provider:
        scene = Scene(provider, node)
        await scene.env.open()
        yield scene
        await scene.check()
        await scene.close()
    await node.__aexit__(None, None, None)

"""A stage for every test; at its end the log must keep every invariant."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.workflows.jobs.stage import JobStage


@pytest.fixture
async def stage() -> AsyncIterator[JobStage]:
    stage = JobStage()
    await stage.script(
        """
        pool main 10.6.0.11-10.6.0.60
        node n1 n3
        pod kube/controller uid=c add=no
        """
    )
    yield stage
    await stage.check()
    await stage.close()

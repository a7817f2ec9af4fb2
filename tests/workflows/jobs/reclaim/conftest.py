"""The reclaim jobs on a scripted cluster."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.workflows.jobs.reclaim.reclaim_job_harness import ReclaimJobHarness


@pytest.fixture
async def harness() -> AsyncIterator[ReclaimJobHarness]:
    harness = ReclaimJobHarness()
    # A complete listing always has the Pod kube/controller.
    await harness.script(
        """
        pool main 10.6.0.11-10.6.0.60
        node n1 n3
        pod kube/controller uid=c add=no
        """
    )
    yield harness
    await harness.check()
    await harness.close()

"""A stage for faults, judged at the end of every test; the counters are part of the output."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from core.store.memory import MemoryStore
from tests.workflows.engine.stage import Stage
from tests.workflows.faults.killing import Counters


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


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    terminalreporter.write_line(
        f"workflow faults: executions {Counters.executions}, kills {Counters.kills}, "
        f"violations {Counters.violations}"
    )

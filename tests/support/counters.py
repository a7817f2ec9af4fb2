"""What the fault tests of workflows got done, added up over all processes of a run.

The counters are part of a run's output: they show that faults did happen. A process that runs tests
for another hands its own over when it ends. The hooks here are hooks of ``tests/conftest.py``.
"""

from __future__ import annotations

from typing import Any

import pytest

HANDED_OVER = "workflow_faults"


class Counters:
    """What all fault tests together got done; printed at the end of the run."""

    executions = 0
    kills = 0
    violations = 0


def pytest_sessionfinish(session: pytest.Session) -> None:
    """In a worker, hand over what was counted here."""
    output: dict[str, Any] | None = getattr(session.config, "workeroutput", None)
    if output is not None:
        output[HANDED_OVER] = (Counters.executions, Counters.kills, Counters.violations)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Add what a worker has counted; one that crashed can say nothing."""
    output: dict[str, Any] = getattr(node, "workeroutput", {})
    executions, kills, violations = output.get(HANDED_OVER, (0, 0, 0))
    Counters.executions += executions
    Counters.kills += kills
    Counters.violations += violations


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say it, if any of these tests were run."""
    if Counters.executions:
        terminalreporter.write_line(
            f"workflow faults: executions {Counters.executions}, kills {Counters.kills}, "
            f"violations {Counters.violations}"
        )

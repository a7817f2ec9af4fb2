"""Counts executions, kills and violations of the workflow fault tests.

The end of a test run prints the sums, to show that faults did happen.
"""

from __future__ import annotations

from typing import Any

import pytest

OUTPUT_KEY = "workflow_faults"
"""The key in the output of a pytest-xdist worker."""


class Counters:
    """The sums over all workflow fault tests."""

    executions = 0
    kills = 0
    violations = 0


def pytest_sessionfinish(session: pytest.Session) -> None:
    """In a pytest-xdist worker, pass the counters to the main process."""
    output: dict[str, Any] | None = getattr(session.config, "workeroutput", None)
    if output is not None:
        output[OUTPUT_KEY] = (Counters.executions, Counters.kills, Counters.violations)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """In the main process, add a worker's counters; a crashed worker has none."""
    output: dict[str, Any] = getattr(node, "workeroutput", {})
    executions, kills, violations = output.get(OUTPUT_KEY, (0, 0, 0))
    Counters.executions += executions
    Counters.kills += kills
    Counters.violations += violations


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if Counters.executions:
        terminalreporter.write_line(
            f"workflow faults: executions {Counters.executions}, kills {Counters.kills}, "
            f"violations {Counters.violations}"
        )

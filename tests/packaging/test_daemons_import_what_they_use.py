"""Daemons import only the modules that they use, because imported modules stay in memory."""

from __future__ import annotations

import subprocess
import sys
from typing import Final

import pytest
import typer

from ops.controller import hooks
from ops.controller.main import HOOK_COMMANDS

UNUSED_MODULES: Final = (
    *("typer", "rich", "pydantic", "requests", "kubernetes", "cryptography"),
    *("opentelemetry.exporter.otlp", "opentelemetry.sdk.trace", "core.process.spans"),
)
"""A daemon uses none of these while traces and certificates are off."""

# The modules that a daemon imports at its start and when it connects to a cluster.
AGENT: Final = (
    "nodeagent.main",
    "core.kubernetes.http_connection",
    "nodeagent.telemetry.exposition",
)
CONTROLLER: Final = ("ops.controller.main", "ops.controller.daemon")


@pytest.mark.parametrize("modules", [AGENT, CONTROLLER], ids=["agent", "controller"])
def test_a_daemon_imports_no_unused_module(
    modules: tuple[str, ...],
) -> None:
    program = f"""
import importlib, sys
for name in {modules!r}:
    importlib.import_module(name)
print([name for name in {UNUSED_MODULES!r} if name in sys.modules])
"""
    completed = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )

    assert completed.stdout == "[]\n"


def test_hook_commands_names_every_command_of_the_module_hooks() -> None:
    """With ``HOOK_COMMANDS``, the daemon need not import typer."""
    group = typer.main.get_command(hooks.command_line_app())

    assert tuple(group.commands) == HOOK_COMMANDS  # type: ignore[attr-defined]

"""How a command does its work, and how it asks.

A command reads its own options, then passes an action to ``perform``; what the action returns is
the exit code.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Coroutine
from typing import Any

import typer

from ops.cli.exits import Exit
from ops.cli.global_options import globals_of
from ops.cli.session import ClusterSession, run
from ops.settings import cluster_settings

Action = Callable[[ClusterSession], Coroutine[Any, Any, Exit]]


def perform(context: typer.Context, action: Action) -> None:
    """Do the action with a session; ends the command with its exit code. Raises BadInput."""
    found = globals_of(context)
    settings = cluster_settings(os.environ, found.options)
    raise typer.Exit(run(settings, found.process, action))


def confirm(question: str, *, yes: bool) -> bool:
    """Ask, unless ``yes`` answers already; without a terminal the answer is no."""
    if yes:
        return True
    if not sys.stdin.isatty():
        return False
    return typer.confirm(question, err=True)

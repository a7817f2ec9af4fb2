"""How a command does its work, reads its input and asks.

A command reads its own options, then passes an action to ``perform``; what the action returns is
the exit code.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import typer

from core.errors import BadInput
from ops.cli.exits import Exit
from ops.cli.global_options import globals_of
from ops.cli.session import ClusterSession, run
from ops.settings import cluster_settings

Action = Callable[[ClusterSession], Coroutine[Any, Any, Exit]]

STANDARD_INPUT = "-"


def perform(context: typer.Context, action: Action) -> None:
    """Do the action with a session; ends the command with its exit code. Raises BadInput."""
    found = globals_of(context)
    settings = cluster_settings(os.environ, found.options)
    raise typer.Exit(run(settings, found.process, action))


def read_text(path: str) -> str:
    """The text of a file; "-" for standard input. Raises BadInput."""
    try:
        return sys.stdin.read() if path == STANDARD_INPUT else Path(path).read_text("utf-8")
    except OSError as error:
        raise BadInput(f"cannot read {path}: {error.strerror}", subject=path) from None
    except UnicodeDecodeError:
        raise BadInput(f"cannot read {path}: it is not UTF-8 text", subject=path) from None


def confirm(question: str, *, yes: bool) -> bool:
    """Ask, unless ``yes`` answers already; without a terminal the answer is no."""
    if yes:
        return True
    if not sys.stdin.isatty():
        return False
    return typer.confirm(question, err=True)

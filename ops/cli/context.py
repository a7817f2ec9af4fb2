"""What the global options say, and how a command does its work with them.

A command parses its own options, then hands an action to ``perform``; its answer is the exit code.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple

import typer

from ops.cli.exits import Exit
from ops.cli.output import Format
from ops.cli.session import ClusterSession, ProcessContext, run
from ops.settings import ClusterSettings, cluster_settings

Action = Callable[[ClusterSession], Coroutine[Any, Any, Exit]]


class Globals(NamedTuple):
    """The object of every command's context."""

    options: dict[str, str]
    output: Format
    surroundings: ProcessContext

    @property
    def settings(self) -> ClusterSettings:
        """The cluster of this run. Raises BadInput."""
        return cluster_settings(os.environ, self.options)


def globals_of(context: typer.Context) -> Globals:
    """The global options of a run."""
    found = context.obj
    assert isinstance(found, Globals), "the application's callback has made it"
    return found


def perform(context: typer.Context, action: Action) -> None:
    """Do the action with a session; ends the command with its exit code. Raises BadInput."""
    said = globals_of(context)
    raise typer.Exit(run(said.settings, said.surroundings, action))


def stdin_text() -> str:
    """All of standard input."""
    return sys.stdin.read()


def confirm(question: str, *, yes: bool) -> bool:
    """Ask, unless the answer was given; without a terminal nobody can answer, which means no."""
    if yes:
        return True
    if not sys.stdin.isatty():
        return False
    return typer.confirm(question, err=True)

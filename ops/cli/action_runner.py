"""Runs the actions of commands, and asks for confirmation.

An action returns an exit code; None means success.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from ops.cli.exit_codes import Exit
from ops.cli.global_options import globals_of

if TYPE_CHECKING:
    from ops.cli.session import ClusterSession

Action: TypeAlias = "Callable[[ClusterSession], Coroutine[Any, Any, Exit | None]]"

Yes = Annotated[bool, typer.Option("-y", "--yes", help="skip the confirmation")]
PodNamespace = Annotated[str, typer.Option("-n", "--namespace", help="namespace of the Pod")]


def perform(context: typer.Context, action: Action) -> None:
    """Run the action with a session, then exit. Raises BadInput."""
    # The etcd client takes 0.1 s to import; --help and shell completion do not need it.
    from ops.cli.session import run  # noqa: PLC0415
    from ops.settings import cluster_settings  # noqa: PLC0415

    global_options = globals_of(context)
    settings = cluster_settings(os.environ, global_options.cluster)
    raise typer.Exit(run(settings, global_options, action))


def confirm(question: str, *, yes: bool) -> bool:
    """Ask the user. Does not ask if ``yes`` (True) or if there is no terminal (False)."""
    if yes:
        return True
    if not sys.stdin.isatty():
        return False
    return typer.confirm(question, err=True)

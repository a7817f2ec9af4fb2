"""``orbctl help``, ``orbctl completion`` and ``orbctl version``."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import typer

# typer has no public function for the completion script.
from typer._completion_shared import get_completion_script

from core import __version__
from core.errors import NotFound
from core.eventstore.codec import SEGMENT_VERSION, STATE_VERSION
from core.eventstore.keys import LAYOUT_VERSION
from ops.cli.global_options import globals_of
from ops.cli.output import show_value


def help_(
    context: typer.Context,
    command: Annotated[
        list[str] | None, typer.Argument(help="a command, such as `get` or `workflow list`")
    ] = None,
) -> None:
    """Show the help of orbctl or of one command.

    Examples:
      orbctl help
      orbctl help get
      orbctl help workflow list
    """
    current: Any = context.find_root()
    for word in command or ():
        name = subcommand = None
        if word in getattr(current.command, "commands", {}):  # only a group has subcommands
            name, subcommand, _ = current.command.resolve_command(current, [word])
        if subcommand is None:
            raise NotFound(
                f"{current.command_path} has no command {word!r}",
                subject=word,
                remedy=f"`{current.command_path} --help` lists the commands",
            )
        current = subcommand.context_class(subcommand, info_name=name, parent=current)
    print(current.command.get_help(current))


COMPLETE_VARIABLE = "_ORBCTL_COMPLETE"
"""The completion script sets this variable when it calls orbctl."""


class Shell(StrEnum):
    """A shell with a completion script."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


def completion(shell: Annotated[Shell, typer.Argument(help="the shell")]) -> None:
    """Print the completion script of a shell.

    Examples:
      source <(orbctl completion bash)
      orbctl completion zsh > "${fpath[1]}/_orbctl"
      orbctl completion fish > ~/.config/fish/completions/orbctl.fish
    """
    print(
        get_completion_script(prog_name="orbctl", complete_var=COMPLETE_VARIABLE, shell=shell.value)
    )


def version(context: typer.Context) -> None:
    """Show the versions of program and formats.

    Examples:
      orbctl version
      orbctl version -o json
    """
    output = globals_of(context).output
    versions = {
        "version": __version__,
        "layout": LAYOUT_VERSION,
        "segments": SEGMENT_VERSION,
        "state": STATE_VERSION,
    }
    if output.is_structured:
        show_value(versions, output)
        return
    print(f"orbctl {__version__} (key layout {LAYOUT_VERSION}, segment format {SEGMENT_VERSION})")

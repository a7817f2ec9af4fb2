"""``orbctl help``: as ``--help``, in the word order of kubectl."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from core.errors import NotFound


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
    found: Any = context.find_root()
    for word in command or ():
        name = below = None
        if hasattr(found.command, "resolve_command") and word in found.command.commands:
            name, below, _ = found.command.resolve_command(found, [word])
        if below is None:
            raise NotFound(
                f"{found.command_path} has no command {word!r}",
                subject=word,
                remedy=f"`{found.command_path} --help` lists the commands",
            )
        found = below.context_class(below, info_name=name, parent=found)
    print(found.command.get_help(found))

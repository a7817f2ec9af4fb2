"""``orbctl completion``: the script that makes a shell complete commands, kinds and names."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

# The scripts that typer itself installs; it has no public function that returns one.
from typer._completion_shared import get_completion_script

COMPLETE_VARIABLE = "_ORBCTL_COMPLETE"
"""Set by the script when it runs orbctl for completions."""


class Shell(StrEnum):
    """A shell that can complete."""

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

"""Global options may stand anywhere on the line: ``orbctl get pools -o yaml --cluster blue``.

The parser below typer knows options only before the command, so they are brought there first.
Everything behind ``--`` stays as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

GLOBAL_OPTIONS: Final = frozenset(
    (
        *("--etcd", "--etcd-ca", "--etcd-cert", "--etcd-key", "--etcd-user"),
        *("--etcd-password-file", "--cluster", "--archive-dir", "-o", "--output"),
    )
)
"""Each takes a value."""


def hoisted(arguments: Sequence[str]) -> list[str]:
    """The arguments with the global options first, in their order."""
    front: list[str] = []
    rest: list[str] = []
    index = 0
    while index < len(arguments):
        argument = arguments[index]
        if argument == "--":
            rest += arguments[index:]
            break
        name, equals, _ = argument.partition("=")
        if name in GLOBAL_OPTIONS and (name.startswith("--") or not equals):
            taken = 1 if equals else 2
            if index + taken > len(arguments):
                return [argument]  # so that the parser says what is missing
            front += arguments[index : index + taken]
            index += taken
        elif argument.startswith("-o") and not argument.startswith("--"):
            front += ["-o", argument[2:].removeprefix("=")]
            index += 1
        else:
            rest.append(argument)
            index += 1
    return front + rest

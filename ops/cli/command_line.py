"""Parses a command line that ``ops.cli.remote`` passes to orbctl in a Pod.

Uses the command's own parser. Values stay text: orbctl in the Pod converts and checks values.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import typer
from typer.core import TyperGroup, TyperOption

from ops.cli.command_group import CommandGroup

END_OF_OPTIONS: Final = "--"


class ParsedOption(NamedTuple):
    """An option or argument.

    ``name``: the long form; "" for an argument. ``value``: None for a flag or an argument.
    ``words``: the words that repeat it on another command line.
    """

    name: str
    value: str | None
    words: tuple[str, ...]


@functools.cache
def program_of(application: typer.Typer) -> CommandGroup:
    """The command group of an application; cached."""
    program = typer.main.get_command(application)
    assert isinstance(program, CommandGroup), "applications of this package use CommandGroup"
    return program


def parse_options(arguments: Sequence[str], program: TyperGroup) -> Iterator[ParsedOption]:
    """Yield options and arguments, from left to right.

    Stops without an error at an unknown command: orbctl in the Pod reports the error.
    """
    command: Any = program
    context: Any = None
    rest = list(arguments)
    while True:
        context = command.context_class(
            command, parent=context, resilient_parsing=True, **command.context_settings
        )
        values, rest, order = command.make_parser(context).parse_args(rest)
        yield from _in_order(values, order)
        if not isinstance(command, TyperGroup) or not rest:
            yield from _arguments(rest)
            return
        name, command, rest = command.resolve_command(context, rest)
        if command is None:
            return
        yield ParsedOption("", None, (str(name),))


def _in_order(values: Mapping[str, Any], order: Sequence[Any]) -> Iterator[ParsedOption]:
    """Yield options, then arguments. ``order`` has one entry for each use of an option."""
    repeated: dict[str, Iterator[Any]] = {}
    arguments: list[str] = []
    for parameter in order:
        value = values.get(parameter.name)
        if not isinstance(parameter, TyperOption):
            arguments += [value] if isinstance(value, str) else value or ()
            continue
        name = max((*parameter.opts, *parameter.secondary_opts), key=len)
        if parameter.multiple:
            value = next(repeated.setdefault(name, iter(value or ())))
        if parameter.is_flag or parameter.count:
            chosen = parameter.opts if value else parameter.secondary_opts
            yield ParsedOption(name, None, (max(chosen, key=len),))
        else:
            yield ParsedOption(name, value, (f"{name}={value}",))
    yield from _arguments(arguments)


def _arguments(words: Sequence[str]) -> Iterator[ParsedOption]:
    if any(word.startswith("-") and word != "-" for word in words):
        yield ParsedOption("", None, (END_OF_OPTIONS,))
    yield from (ParsedOption("", None, (word,)) for word in words)

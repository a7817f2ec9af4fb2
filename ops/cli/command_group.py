"""A command group that imports each command on first use.

Help and completion import no command. Every command also accepts the options of its group, such as
``orbctl get pools --cluster blue``. If an option is repeated, the last value counts.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any, ClassVar, Final, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup, TyperOption

INHERITED_OPTIONS: Final = "ops.cli.inherited_options"
"""Under this key, ``context.meta`` has the group options that follow a command, by name."""

SHOWN_EVERYWHERE: Final = frozenset({"output"})
"""Group options that the help of each command lists too."""

_EXAMPLES: Final = re.compile(r"\n\nExamples:\n")


class LazyCommand(NamedTuple):
    """An entry in the list of commands.

    ``target``: ``module:name`` of a function or ``typer.Typer``. ``panel``: the heading above
    the command.
    """

    target: str
    panel: str
    summary: str


class CommandGroup(TyperGroup):
    """A group of commands. A subclass lists its commands in ``lazy_commands``."""

    lazy_commands: ClassVar[Mapping[str, LazyCommand]] = {}

    def __init__(self, **attributes: Any) -> None:  # noqa: ANN401  # typer's, passed on
        super().__init__(**attributes)
        self._ready: set[str] = set()
        for name, entry in self.lazy_commands.items():
            self.add_command(TyperCommand(name, help=entry.summary, rich_help_panel=entry.panel))

    def resolve_command(
        self,
        ctx: Any,  # noqa: ANN401  # typer does not export its type
        args: list[str],
    ) -> tuple[str | None, Any, list[str]]:
        """Import the command; return name, command, other arguments."""
        name, command, rest = super().resolve_command(ctx, args)
        return name, command if name is None else self.command(name), rest

    def command(self, name: str) -> Any:  # noqa: ANN401  # a TyperCommand or TyperGroup
        """Import the command, and add the group's options. Raises KeyError."""
        if name not in self._ready:
            if entry := self.lazy_commands.get(name):
                self.commands[name] = _import_command(name, entry)
            _inherit(
                self.commands[name],
                [option for option in self.params if isinstance(option, TyperOption)],
            )
            self._ready.add(name)
        return self.commands[name]


def _import_command(name: str, entry: LazyCommand) -> TyperCommand | TyperGroup:
    module, _, attribute = entry.target.partition(":")
    target = getattr(import_module(module), attribute)
    if isinstance(target, typer.Typer):
        command: TyperCommand | TyperGroup = typer.main.get_group(target)
    else:
        single = typer.Typer(add_completion=False)
        single.command(name)(target)
        single_command = typer.main.get_command(single)
        assert isinstance(single_command, TyperCommand), "typer made a group of one function"
        command = single_command
    command.name, command.rich_help_panel = name, entry.panel
    return command


def _inherit(command: Any, options: Sequence[TyperOption]) -> None:  # noqa: ANN401  # as above
    """Add missing options to a command and its subcommands."""
    own_names = {name for parameter in command.params for name in parameter.opts}
    command.params += [
        _inherited_copy(option) for option in options if not own_names.intersection(option.opts)
    ]
    if command.help:  # \b: typer keeps the line breaks of the next paragraph
        command.help = _EXAMPLES.sub("\n\n\b\nExamples:\n", command.help)
    for subcommand in getattr(command, "commands", {}).values():
        _inherit(subcommand, options)


def _inherited_copy(option: TyperOption) -> TyperOption:
    # The copy has no default: a default would replace the value that the group got.
    inherited = copy.copy(option)
    inherited.default, inherited.envvar, inherited.expose_value = None, None, False
    inherited.hidden = option.name not in SHOWN_EVERYWHERE
    inherited.callback = _store_value
    return inherited


def _store_value(context: Any, option: Any, value: object) -> object:  # noqa: ANN401  # typer hides both
    if value is not None:
        context.meta.setdefault(INHERITED_OPTIONS, {})[option.name] = value
    return value

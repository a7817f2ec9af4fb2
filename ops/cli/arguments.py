"""Global options may stand anywhere on the line: ``orbctl get pools -o yaml --cluster blue``.

The parser below typer knows options only before the command, so they are brought there first. Which
options of a command take a value is read from the command itself: the value of an option, and what
follows ``--``, is not parsed as an option.
"""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Collection, Iterator, Sequence
from typing import Final, NamedTuple

import typer
from typer.core import TyperGroup, TyperOption

GLOBAL_OPTIONS: Final = frozenset(
    (
        *("--etcd", "--etcd-ca", "--etcd-cert", "--etcd-key", "--etcd-user"),
        *("--etcd-password-file", "--cluster", "--archive-dir", "-o", "--output"),
    )
)
"""Each takes a value."""

END_OF_OPTIONS: Final = "--"


class ParsedOption(NamedTuple):
    """One option, or a word that is not an option (``name`` ""); ``words`` as they were typed.

    ``value`` None: the option is a flag, or its value is missing.
    """

    name: str
    value: str | None
    words: tuple[str, ...]


@functools.cache
def program_of(application: typer.Typer) -> TyperGroup:
    """The commands of an application, which cost some 20 ms to make."""
    found = typer.main.get_command(application)
    assert isinstance(found, TyperGroup), "an application of one command has no others"
    return found


def parse_options(
    arguments: Sequence[str], program: TyperGroup, others: Collection[str] = ()
) -> Iterator[ParsedOption]:
    """Parse the line, option by option; ``others`` take a value beside those of the program."""
    reader = _Reader(arguments, program, frozenset(others) | GLOBAL_OPTIONS)
    while reader.words:
        yield from reader.next()


def hoisted(arguments: Sequence[str], program: TyperGroup) -> list[str]:
    """The arguments with the global options first, in their order."""
    front: list[str] = []
    rest: list[str] = []
    for option in parse_options(arguments, program):
        if option.name not in GLOBAL_OPTIONS:
            rest += option.words
        elif option.value is None:
            return [option.name]  # so that the parser says what is missing
        elif option.name.startswith("--"):
            front += option.words
        else:
            front += [option.name, option.value]
    return front + rest


class _Reader:
    """Walks along a line and down the commands that it names."""

    def __init__(
        self, arguments: Sequence[str], program: TyperGroup, with_value: frozenset[str]
    ) -> None:
        self.words = deque(arguments)
        self._everywhere = with_value
        self._enter(program)

    def next(self) -> Iterator[ParsedOption]:
        """Parse the next word, with its value."""
        word = self.words.popleft()
        if word == END_OF_OPTIONS:
            yield from (ParsedOption("", None, (each,)) for each in (word, *self.words))
            self.words.clear()
        elif not word.startswith("-") or word == "-":
            self._enter_named(word)
            yield ParsedOption("", None, (word,))
        elif word.startswith("--"):
            name, equals, value = word.partition("=")
            yield self._with_value_of(name, word, value if equals else None)
        else:
            yield from self._short(word)

    def _short(self, word: str) -> Iterator[ParsedOption]:
        """``-o yaml``, ``-oyaml``, ``-o=yaml``, ``-Ao yaml``."""
        name, rest = word[:2], word[2:]
        if rest and name in self._flags and f"-{rest[0]}" in self._with_value | self._flags:
            yield ParsedOption(name, None, (name,))
            yield from self._short(f"-{rest}")
        else:
            yield self._with_value_of(name, word, rest.removeprefix("=") or None)

    def _with_value_of(self, name: str, word: str, value: str | None) -> ParsedOption:
        if value is not None or name not in self._with_value:
            return ParsedOption(name, value, (word,))
        if not self.words or self.words[0] == END_OF_OPTIONS:
            return ParsedOption(name, None, (word,))
        return ParsedOption(name, self.words[0], (word, self.words.popleft()))

    def _enter_named(self, word: str) -> None:
        found = self._commands.get(word)
        if found is not None:
            self._enter(found)

    def _enter(self, command: object) -> None:
        """Parse by the options of this command from here on."""
        self._commands = command.commands if isinstance(command, TyperGroup) else {}
        options = [one for one in getattr(command, "params", ()) if isinstance(one, TyperOption)]
        flags = [one for one in options if one.is_flag or one.count]
        values = [one for one in options if one not in flags]
        self._flags = {name for one in flags for name in (*one.opts, *one.secondary_opts)}
        self._with_value = self._everywhere | {name for one in values for name in one.opts}

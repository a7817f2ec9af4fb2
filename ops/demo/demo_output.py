"""The output of the demo: numbered steps, commands, and results."""

from __future__ import annotations

import textwrap
import time
from collections.abc import Iterable, Sequence
from typing import Final

from rich.console import Console
from rich.rule import Rule
from rich.text import Text

PLAIN_WIDTH: Final = 110
"""Columns of an output that is no terminal."""

INDENT: Final = 4
COLUMN_GAP: Final = 3


class DemoFailed(Exception):
    """A step had an unexpected result."""


class DemoOutput:
    """The output of the demo on standard output."""

    def __init__(self) -> None:
        console = Console(highlight=False)
        if not console.is_terminal:
            console = Console(highlight=False, width=PLAIN_WIDTH)
        self._console = console
        self._number = 0
        self._began = time.monotonic()

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._began

    def step(self, title: str, text: str) -> None:
        """Begin the next step."""
        self._number += 1
        self._console.print()
        heading = Text(f"{self._number}. {title}", style="bold cyan")
        self._console.print(Rule(heading, align="left", style="cyan"))
        self.say(text)

    def say(self, text: str) -> None:
        """Print a text, wrapped."""
        for line in textwrap.wrap(" ".join(text.split()), self._console.width):
            self._console.print(Text(line))

    def command(self, text: str, *, place: str = "") -> None:
        """Print a command; ``place``: its node or Pod."""
        prompt = Text(f"{place}$ ", style="green")
        self._console.print(prompt + Text(text, style="bold"), soft_wrap=True)

    def output(self, text: str, *, style: str = "") -> None:
        """Print the output of a command."""
        for line in text.rstrip().splitlines():
            self._console.print(Text(" " * INDENT + line.rstrip(), style=style), soft_wrap=True)

    def table(self, titles: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        """Print a table."""
        lines = [tuple(titles), *map(tuple, rows)]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        for number, line in enumerate(lines):
            cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
            self.output((" " * COLUMN_GAP).join(cells), style="" if number else "dim")

    def end(self, text: str) -> None:
        """Print the last line after success."""
        self._console.print()
        self._console.print(Text(text, style="bold green"))

    def fail(self, text: str) -> None:
        """Print the last line after a failure."""
        self._console.print()
        self._console.print(Text(text, style="bold red"), soft_wrap=True)


def expect(condition: object, otherwise: str) -> None:
    """Raise DemoFailed(otherwise) if the condition is false or empty."""
    if not condition:
        raise DemoFailed(otherwise)

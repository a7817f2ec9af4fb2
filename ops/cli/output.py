"""Prints results: tables for people, stable formats for programs."""

from __future__ import annotations

import csv
import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from rich.console import Console
from rich.table import Table
from rich.text import Text

from core.errors import BadInput
from core.manifests.manifest_writer import dump_yaml
from ops.cli import jsonpath
from ops.cli.formats import TABLE_OUTPUT, Format, Output

MANIFEST_LIST: Final = {"apiVersion": "v1", "kind": "List"}
PLAIN_WIDTH: Final = 10_000
"""Characters. No row is so wide, so no row is shortened or wrapped."""

_TRAILING_SPACES: Final = re.compile(r" +((?:\x1b\[[0-9;]*m)*)$")
"""The group keeps colour codes that follow the spaces."""


class TableColumn(NamedTuple):
    """A column. ``wide``: only with ``-o wide`` or ``csv``; ``right``: aligned to the right."""

    title: str
    wide: bool = False
    right: bool = False


class ObjectListing(NamedTuple):
    """Objects of one kind.

    ``rows``, ``names`` and ``manifests`` are in the same order. Tables need no ``manifests``.
    """

    columns: Sequence[TableColumn]
    rows: Sequence[Sequence[str]]
    names: Sequence[str]
    manifests: Sequence[Mapping[str, Any]] = ()


def show(listing: ObjectListing, output: Output, *, single: bool = False) -> None:
    """Print a listing; ``single``: print its only object, not a list. Raises BadInput."""
    if output.is_name:
        print_names(listing.names)
    elif output.format is Format.CUSTOM_COLUMNS:
        show_table(*_custom_columns(listing.manifests, output.template))
    elif output.is_structured:
        manifests = list(listing.manifests)
        show_value(manifests[0] if single else {**MANIFEST_LIST, "items": manifests}, output)
    else:
        show_table(listing.columns, listing.rows, output)


def print_names(names: Iterable[str]) -> None:
    """Print each name on a line; nothing for an empty list."""
    for name in names:
        print(name)


def more_text(count: int) -> str:
    """The line after a list of which ``count`` entries are left out."""
    return f"... {count:,} more (-o wide shows them)"


def show_value(value: object, output: Output) -> None:
    """Print a value as JSON, through a template, or as YAML. Raises BadInput."""
    if output.format is Format.JSON:
        print(json.dumps(value, indent=2, ensure_ascii=False))
        return
    # The other formats show the values of the JSON: YAML cannot represent enums.
    plain = json.loads(json.dumps(value))
    match output.format:
        case Format.JSONPATH:
            sys.stdout.write(jsonpath.render(output.template, plain))
        case Format.CUSTOM_COLUMNS:
            show_table(*_custom_columns([plain], output.template))
        case _:
            sys.stdout.write(dump_yaml([plain]))


def show_table(
    columns: Sequence[TableColumn],
    rows: Iterable[Sequence[str]],
    output: Output = TABLE_OUTPUT,
    *,
    header: bool = True,
) -> None:
    """Print a table without borders, or CSV."""
    shown_indexes = [
        index for index, column in enumerate(columns) if output.is_wide or not column.wide
    ]
    if output.format is Format.CSV:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        if header:
            writer.writerow([columns[index].title for index in shown_indexes])
        writer.writerows([row[index] for index in shown_indexes] for row in rows)
        return
    visible = [columns[index] for index in shown_indexes]
    print_rich(
        table_of(visible, ([row[index] for index in shown_indexes] for row in rows), header=header)
    )


def table_of(
    columns: Sequence[TableColumn], rows: Iterable[Sequence[str]], *, header: bool = True
) -> Table:
    """A table of all columns, without borders."""
    table = Table(
        box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="bold", show_header=header
    )
    for column in columns:
        table.add_column(column.title, justify="right" if column.right else "left", no_wrap=True)
    for row in rows:
        table.add_row(*map(Text, row))
    return table


def _custom_columns(
    values: Sequence[object], template: str
) -> tuple[list[TableColumn], list[list[str]]]:
    """Columns and rows of ``NAME:.metadata.name,...``. Raises BadInput."""
    columns, paths = [], []
    # Split at commas outside brackets and parentheses.
    for part in re.split(r",(?![^\[(]*[\])])", template):
        title, colon, path = part.partition(":")
        if not (title and colon and path):
            raise BadInput(
                f"-o custom-columns: {part[:64]!r} is not TITLE:PATH",
                subject="--output",
                remedy="write custom-columns=NAME:.metadata.name,SUBNET:.spec.subnet, for example",
            )
        columns.append(TableColumn(title))
        paths.append(path)
    rows = [
        [",".join(map(jsonpath.text_of, jsonpath.find(path, value))) or "<none>" for path in paths]
        for value in values
    ]
    return columns, rows


def print_rich(renderable: object) -> None:
    """Print in colour on a terminal; lines are never shortened."""
    wide = console(width=PLAIN_WIDTH)
    with wide.capture() as captured:
        wide.print(renderable)
    for line in captured.get().splitlines():
        print(_TRAILING_SPACES.sub(r"\1", line))


def console(width: int | None = None) -> Console:
    """A console of this width; None: the width of the terminal."""
    terminal = sys.stdout.isatty()
    return Console(
        file=sys.stdout,
        highlight=False,
        soft_wrap=terminal,
        width=width,
        force_terminal=terminal or None,
    )


def print_heading(text: str) -> None:
    """Print a heading."""
    print_rich(Text(text, style="bold"))


def print_fields(fields: Iterable[tuple[str, str]], indent: int = 0) -> None:
    """Print names and values, aligned, without empty values."""
    fields_with_value = [(name, value) for name, value in fields if value]
    width = max((len(name) for name, _ in fields_with_value), default=0) + 1
    blank = " " * indent
    for name, value in fields_with_value:
        first, *more = value.splitlines()
        print(f"{blank}{name + ':':<{width}}  {first}")
        for line in more:
            print(f"{blank}{'':<{width}}  {line}")


def duration(milliseconds: int) -> str:
    """A duration in at most two units: ``42s``, ``5m12s``, ``2d4h``."""
    seconds = max(milliseconds, 0) // 1000
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86_400
    if minutes < 2:
        return f"{seconds}s"
    if hours < 2:
        return f"{minutes}m{seconds % 60}s" if seconds % 60 else f"{minutes}m"
    if days < 2:
        return f"{hours}h{minutes % 60}m" if minutes % 60 else f"{hours}h"
    return f"{days}d{hours % 24}h" if hours % 24 else f"{days}d"


def moment(unix_ms: int) -> str:
    """A time in UTC, to the second: ``2026-03-01 14:03:00Z``."""
    at = datetime.fromtimestamp(unix_ms // 1000, UTC)
    return at.isoformat(sep=" ").replace("+00:00", "Z")

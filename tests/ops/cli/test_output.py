"""The layout of tables on a terminal."""

from __future__ import annotations

import re
import sys

import pytest

from ops.cli.output import TableColumn, show_table

ESCAPE = re.compile(r"\x1b\[[0-9;]*m")
COLUMNS = (TableColumn("POOL"), TableColumn("ENDED"))


def test_a_narrow_terminal_shows_every_cell_completely(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)

    show_table(COLUMNS, [("lan", "x" * 100), ("office", "-")])

    printed = capsys.readouterr().out
    assert ESCAPE.search(printed), "the table must be in colour"
    assert ESCAPE.sub("", printed).splitlines() == [
        "POOL     ENDED",
        f"lan      {'x' * 100}",
        "office   -",
    ]

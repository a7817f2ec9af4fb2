"""The layout of tables on a terminal, and lists of names."""

from __future__ import annotations

import csv
import re
import sys
from pathlib import Path

import pytest

from ops.cli.exit_codes import Exit
from ops.cli.output import TableColumn, show_table
from tests.support.orbctl_harness import OrbctlHarness

ESCAPE = re.compile(r"\x1b\[[0-9;]*m")
DIRECTORY = Path(__file__).parent / "transcripts"
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


@pytest.mark.parametrize(
    "command",
    [
        "archive list",
        "as-of 1 pools",
        "diff 1 1",
        "forecast",
        "retire list",
        "schedule list",
        "workflow list",
    ],
)
def test_a_list_of_names_prints_nothing_if_it_is_empty(tmp_path: Path, command: str) -> None:
    harness = OrbctlHarness(tmp_path / "archive")
    harness.orbctl("apply", "-f", str(DIRECTORY / "records.yaml"))

    listed = harness.orbctl(*command.split(), "-o", "name")

    assert (listed.code, listed.out) == (Exit.OK, "")


def test_the_csv_of_the_archive_has_only_its_files_and_names_are_their_names(
    tmp_path: Path,
) -> None:
    harness = OrbctlHarness(tmp_path / "archive")
    harness.orbctl("apply", "-f", str(DIRECTORY / "records.yaml"))
    assert harness.orbctl("archive").code == Exit.OK

    rows = list(csv.DictReader(harness.orbctl("archive", "list", "-o", "csv").out.splitlines()))

    assert [row["NUMBER"] for row in rows] == ["1"]
    assert harness.orbctl("archive", "list", "-o", "name").out == f"{rows[0]['FILE']}\n"

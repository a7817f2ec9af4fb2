"""No file contains conflict markers of git."""

from __future__ import annotations

import subprocess

from tests.packaging.project import PROJECT_ROOT


def test_no_file_contains_conflict_markers() -> None:
    command = ["git", "grep", "--line-number", "-I", "-E", "^(<{7}|>{7}) "]
    completed = subprocess.run(
        command, cwd=PROJECT_ROOT, capture_output=True, text=True, check=False
    )

    assert completed.stderr == ""
    assert completed.stdout == ""

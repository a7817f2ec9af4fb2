"""The generated reference pages match the code."""

from __future__ import annotations

import subprocess
import sys

from tests.tidy.sources import PROJECT_ROOT


def test_generated_pages_match_the_code() -> None:
    command = [sys.executable, "-m", "scripts.reference", "--check"]
    completed = subprocess.run(
        command, cwd=PROJECT_ROOT, capture_output=True, text=True, check=False
    )

    assert completed.returncode == 0, (
        f"run python -m scripts.reference: {completed.stdout}{completed.stderr}"
    )

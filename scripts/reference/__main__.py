"""Generates pages of ``docs/reference``; with ``--check``, compares them with the files."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

from scripts.generated_files import PROJECT_ROOT, write_or_compare
from scripts.reference import chart_values, commands, custom_resources, failures

FOLDER: Final = PROJECT_ROOT / "docs" / "reference"


def pages() -> dict[Path, str]:
    """The expected text of each page."""
    errors = FOLDER / "errors.md"
    return {
        FOLDER / "custom-resources.md": custom_resources.custom_resources(),
        FOLDER / "orbctl-commands.md": commands.commands(),
        FOLDER / "chart-values.md": chart_values.chart_values(),
        errors: failures.with_failures(errors.read_text(encoding="utf-8")),
    }


if __name__ == "__main__":
    sys.exit(write_or_compare(pages()))

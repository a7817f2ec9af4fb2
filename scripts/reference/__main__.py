"""Writes or compares the pages."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

from scripts.reference import chart_values, commands, custom_resources, failures

FOLDER: Final = Path(__file__).resolve().parents[2] / "docs" / "reference"


def pages() -> dict[Path, str]:
    """Every page with the text that it must have."""
    errors = FOLDER / "errors.md"
    return {
        FOLDER / "custom-resources.md": custom_resources.custom_resources(),
        FOLDER / "orbctl-commands.md": commands.commands(),
        FOLDER / "chart-values.md": chart_values.chart_values(),
        errors: failures.with_failures(errors.read_text(encoding="utf-8")),
    }


def main() -> int:
    """Write the pages, or compare them."""
    checking = "--check" in sys.argv[1:]
    differing = []
    for path, text in pages().items():
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        differing.append(path)
        if not checking:
            path.write_text(text, encoding="utf-8")
    for path in differing:
        print(f"docs/reference/{path.name} {'differs' if checking else 'written'}")
    return int(checking and bool(differing))


if __name__ == "__main__":
    sys.exit(main())

"""Writes or compares the pictures."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

from scripts.pictures import addresses, allocation, datapath, event_log, workflows
from scripts.pictures.canvas import Canvas

FOLDER: Final = Path(__file__).resolve().parents[2] / "docs" / "images"


def pictures() -> dict[str, Canvas]:
    """Every picture by the name of its file, without the suffix."""
    drawn: dict[str, Canvas] = {}
    for module in (addresses, allocation, datapath, event_log, workflows):
        drawn |= module.pictures()
    return drawn


def main() -> int:
    """Write the files, or compare them."""
    checking = "--check" in sys.argv[1:]
    differing = []
    for name, canvas in pictures().items():
        path, text = FOLDER / f"{name}.svg", canvas.svg()
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        differing.append(name)
        if not checking:
            FOLDER.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    for name in differing:
        print(f"docs/images/{name}.svg {'differs' if checking else 'written'}")
    return int(checking and bool(differing))


if __name__ == "__main__":
    sys.exit(main())

"""Writes or compares the SVG pictures of the documents (``scripts.generated_files``)."""

from __future__ import annotations

import sys
from typing import Final

from scripts.generated_files import PROJECT_ROOT, write_or_compare
from scripts.pictures import addresses, allocation, datapath, event_log, workflows
from scripts.pictures.canvas import Canvas

PICTURES_FOLDER: Final = PROJECT_ROOT / "docs" / "images"


def pictures() -> dict[str, Canvas]:
    """Picture name -> picture."""
    canvases: dict[str, Canvas] = {}
    for module in (addresses, allocation, datapath, event_log, workflows):
        canvases |= module.pictures()
    return canvases


def main() -> int:
    """Write or compare the files; return the exit code."""
    return write_or_compare(
        {PICTURES_FOLDER / f"{name}.svg": canvas.svg() for name, canvas in pictures().items()}
    )


if __name__ == "__main__":
    sys.exit(main())

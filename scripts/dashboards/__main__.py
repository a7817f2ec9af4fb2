"""Writes or compares the Grafana dashboards (``scripts.generated_files``)."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

from scripts.dashboards.board import as_text
from scripts.dashboards.rdma import dashboards
from scripts.generated_files import PROJECT_ROOT, write_or_compare

FOLDER: Final = PROJECT_ROOT / "ops" / "monitoring" / "dashboards"


def files() -> dict[Path, str]:
    """The expected text of each dashboard file."""
    return {FOLDER / f"{name}.json": as_text(dashboard) for name, dashboard in dashboards().items()}


if __name__ == "__main__":
    sys.exit(write_or_compare(files()))

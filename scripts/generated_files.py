"""Writes or compares generated files, for the generators in ``scripts``.

Without arguments, files that differ are written. With ``--check``, nothing is written, and the exit
code is 1 if a file differs.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

PROJECT_ROOT: Final = Path(__file__).resolve().parents[1]


def write_or_compare(files: Mapping[Path, str]) -> int:
    """Write or compare ``files`` (path -> expected text); return the exit code."""
    is_check = "--check" in sys.argv[1:]
    differing = [path for path, text in files.items() if not _has(path, text)]
    for path in differing:
        if not is_check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(files[path], encoding="utf-8")
        print(f"{path.relative_to(PROJECT_ROOT)} {'differs' if is_check else 'written'}")
    return int(is_check and bool(differing))


def _has(path: Path, text: str) -> bool:
    return path.exists() and path.read_text(encoding="utf-8") == text

"""The open descriptors of this process, for tests that prove that no descriptor leaks.

Compare sets, not numbers: the garbage collector may close descriptors of earlier tests at any time.
"""

from __future__ import annotations

from pathlib import Path


def open_descriptors() -> set[str]:
    """Number and target of each open descriptor."""
    descriptors = set()
    for path in Path("/proc/self/fd").iterdir():
        try:
            descriptors.add(f"{path.name} {path.readlink()}")
        except FileNotFoundError:
            continue  # the descriptor that listed the directory
    return descriptors

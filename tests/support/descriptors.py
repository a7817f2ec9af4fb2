"""What a process holds open, for tests that prove that nothing stays open.

Compare sets, and assert on what is new: the garbage collector may close what earlier tests left at
any time, so a count may fall while a test runs.
"""

from __future__ import annotations

from pathlib import Path


def open_descriptors() -> set[str]:
    """Each open descriptor of this process, by number and target."""
    found = set()
    for path in Path("/proc/self/fd").iterdir():
        try:
            found.add(f"{path.name} {path.readlink()}")
        except FileNotFoundError:
            continue  # the descriptor that lists them
    return found

"""Reads and copies the CNI configurations of a node.

Usually only root may read them. A container of the chart copies them for the controller, which is
not root.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from core.errors import BadInput

FILE_BYTES_MAX: Final = 64 * 1024
FILES_MAX: Final = 64
SUFFIXES: Final = (".conf", ".conflist", ".json")
TEMPORARY: Final = ".new"
"""The suffix of a copy until it is complete."""

EVENT_REASON: Final = "ClusterNotReady"
"""The reason of the Event about a directory that cannot be read."""

Stamp = tuple[tuple[str, int, int], ...]
"""Name, modification time (ns) and size of each configuration, to detect changes."""


def read_directory(directory: Path) -> Mapping[str, str]:
    """The configurations by file name; {} if the directory does not exist. Raises BadInput."""
    texts = {}
    try:
        for path in _paths(directory):
            try:
                with path.open("rb") as file:
                    texts[path.name] = file.read(FILE_BYTES_MAX).decode("utf-8", "replace")
            except (FileNotFoundError, IsADirectoryError):
                continue
    except OSError as error:
        message = f"CNI configurations of {directory} cannot be read: {error.strerror}"
        raise BadInput(
            message, subject=EVENT_REASON, remedy="give the controller read access to these files"
        ) from None
    return texts


def stamp_of(directory: Path) -> Stamp:
    """The stamp of the configurations; () if the directory cannot be read."""
    entries = []
    try:
        for path in _paths(directory):
            status = path.stat()
            entries.append((path.name, status.st_mtime_ns, status.st_size))
    except OSError:
        return ()
    return tuple(entries)


def mirror(source: Path, target: Path) -> list[str]:
    """Copy the configurations of ``source`` to ``target``; return the names of changed files.

    Each file is replaced atomically. Copies without a source are deleted. Raises BadInput, OSError.
    """
    texts, copies = read_directory(source), read_directory(target)
    changed = sorted(
        name for name in texts.keys() | copies.keys() if texts.get(name) != copies.get(name)
    )
    for name in changed:
        if name not in texts:
            (target / name).unlink(missing_ok=True)
            continue
        temporary = target / f"{name}{TEMPORARY}"
        temporary.write_text(texts[name], "utf-8")
        temporary.chmod(0o644)
        temporary.replace(target / name)
    return changed


def _paths(directory: Path) -> list[Path]:
    try:
        paths = sorted(path for path in directory.iterdir() if path.suffix in SUFFIXES)
    except FileNotFoundError:
        return []
    return paths[:FILES_MAX]

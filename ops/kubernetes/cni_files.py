"""The CNI configurations of a node: the first one names the overlay network.

Only root may read them on most nodes, so a small container of the chart keeps copies for the
controller, which is not root. Both read the same bounded part.
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
FAULT: Final = "ClusterNotReady"
"""The reason of the Event about a directory that cannot be read."""

Stamp = tuple[tuple[str, int, int], ...]


def read_directory(directory: Path) -> Mapping[str, str]:
    """The configurations by name, at most 64 KiB of 64 files; none where there is no directory.

    Raises BadInput when the directory or a file in it cannot be read: the overlay would be guessed.
    """
    found = {}
    try:
        for path in _paths(directory):
            try:
                with path.open("rb") as file:
                    found[path.name] = file.read(FILE_BYTES_MAX).decode("utf-8", "replace")
            except (FileNotFoundError, IsADirectoryError):
                continue
    except OSError as error:
        message = f"CNI configurations of {directory} cannot be read: {error.strerror}"
        raise BadInput(message, subject=FAULT, remedy="give read access to them") from None
    return found


def stamp_of(directory: Path) -> Stamp:
    """What differs when a configuration does; () for a directory that cannot be read."""
    found = []
    try:
        for path in _paths(directory):
            status = path.stat()
            found.append((path.name, status.st_mtime_ns, status.st_size))
    except OSError:
        return ()
    return tuple(found)


def mirror(source: Path, target: Path) -> list[str]:
    """Make the configurations in ``target`` those in ``source``; the names that differed.

    Each file is replaced as a whole. Raises BadInput and OSError, and keeps the copies then.
    """
    wanted, before = read_directory(source), read_directory(target)
    different = sorted(
        name for name in wanted.keys() | before.keys() if wanted.get(name) != before.get(name)
    )
    for name in different:
        if name not in wanted:
            (target / name).unlink(missing_ok=True)
            continue
        temporary = target / f"{name}{TEMPORARY}"
        temporary.write_text(wanted[name], "utf-8")
        temporary.chmod(0o644)
        temporary.replace(target / name)
    return different


def _paths(directory: Path) -> list[Path]:
    try:
        paths = sorted(path for path in directory.iterdir() if path.suffix in SUFFIXES)
    except FileNotFoundError:
        return []
    return paths[:FILES_MAX]

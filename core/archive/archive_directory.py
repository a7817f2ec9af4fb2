"""The directory of archive files, behind a protocol that an object store could implement too."""

from __future__ import annotations

import mmap
import os
import secrets
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from core.errors import LogCorrupt

PARTIAL_SUFFIX = ".partial"
"""Marks a file that is being written. Such a file is not read."""


class Files(Protocol):
    """One flat directory of immutable files."""

    def names(self) -> list[str]:
        """The sorted names of complete files."""
        ...

    def partials(self) -> list[str]:
        """The sorted names of files that are being written, or whose writer crashed."""
        ...

    def write(self, name: str, chunks: Iterable[bytes]) -> None:
        """Create the file atomically; durable on return. Raises FileExistsError, OSError."""
        ...

    def view(self, name: str) -> memoryview:
        """The bytes of a file, memory-mapped. Raises LogCorrupt if it cannot be read."""
        ...

    def remove(self, name: str) -> None:
        """Delete a complete or partial file, if it exists."""
        ...


class LocalFiles:
    """The files of a local directory, which the first write creates."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def names(self) -> list[str]:
        """See ``Files.names``."""
        if not self._directory.is_dir():
            return []
        names = (entry.name for entry in self._directory.iterdir() if entry.is_file())
        return sorted(name for name in names if not name.endswith(PARTIAL_SUFFIX))

    def write(self, name: str, chunks: Iterable[bytes]) -> None:
        """See ``Files.write``."""
        self._directory.mkdir(parents=True, exist_ok=True)
        partial = self._directory / f"{name}.{secrets.token_hex(4)}{PARTIAL_SUFFIX}"
        try:
            with partial.open("xb") as file:
                file.writelines(chunks)
                file.flush()
                os.fsync(file.fileno())
            # Unlike a rename, a link never replaces an existing file.
            os.link(partial, self._directory / name)
        finally:
            partial.unlink(missing_ok=True)
        self._sync_directory()

    def view(self, name: str) -> memoryview:
        """See ``Files.view``."""
        try:
            with (self._directory / name).open("rb") as file:
                return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        except (OSError, ValueError) as error:  # an empty file cannot be mapped
            why = f"is missing or empty in {self._directory}"
            remedy = "restore it from a copy of the archive, or set the directory that has it"
            if isinstance(error, OSError) and not isinstance(error, FileNotFoundError):
                why = f"cannot be read: {error.strerror}"
                remedy = f"check the disk and the permissions of {self._directory}"
            raise LogCorrupt(f"archive file {name} {why}", subject=name, remedy=remedy) from error

    def remove(self, name: str) -> None:
        """See ``Files.remove``."""
        (self._directory / name).unlink(missing_ok=True)

    def partials(self) -> list[str]:
        """See ``Files.partials``."""
        if not self._directory.is_dir():
            return []
        paths = self._directory.glob(f"*{PARTIAL_SUFFIX}")
        return sorted(path.name for path in paths if path.is_file())

    def _sync_directory(self) -> None:
        descriptor = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

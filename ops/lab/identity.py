"""The identity of a laboratory: a process id and a serial number.

The names of its directory, namespaces and cgroups contain the identity.

The directory stores the start time of the process, because process ids are reused.
"""

from __future__ import annotations

import itertools
import os
import re
from pathlib import Path
from typing import Final, NamedTuple, Self

LABORATORIES_FOLDER: Final = Path("/run/orbweaver-lab")

NAMESPACES_FOLDER: Final = Path("/run/netns")
"""Where iproute2 keeps named network namespaces."""

LABORATORY_VARIABLE: Final = "ORBWEAVER_LAB"
"""The environment variable of every process of a laboratory; its value is the identity."""

_START_TIME_FILE: Final = "started"
_START_FIELD: Final = 19
"""The index of ``starttime`` among the fields of /proc/<pid>/stat after the name (proc(5))."""

_NAME: Final = re.compile(r"(?:ow-)?(?P<pid>\d+)-(?P<serial>\d+)(?:-.*)?")
_serials: Final = itertools.count(1)


class LabFailed(Exception):
    """A step of the laboratory failed. Not an error of the product, so not in core/errors.py."""

    def __init__(self, message: str, *, remedy: str = "") -> None:
        super().__init__(f"{message} ({remedy})" if remedy else message)


class LabIdentity(NamedTuple):
    """The identity of one laboratory."""

    pid: int
    serial: int

    @classmethod
    def parse(cls, name: str) -> Self | None:
        """The identity in the name of a directory or namespace; None for other names."""
        match = _NAME.fullmatch(name)
        return cls(int(match["pid"]), int(match["serial"])) if match else None

    def __str__(self) -> str:
        return f"{self.pid}-{self.serial}"

    @property
    def directory(self) -> Path:
        """The directory of the laboratory's files."""
        return LABORATORIES_FOLDER / str(self)

    def name(self, suffix: str) -> str:
        """The name of a namespace or cgroup of this laboratory."""
        return f"ow-{self}-{suffix}"

    def create_directory(self) -> None:
        """Create the directory, with the start time of this process. Raises LabFailed."""
        try:
            self.directory.mkdir(mode=0o700, parents=True)
        except FileNotFoundError:
            # Another laboratory removed the empty folder of laboratories before the second step.
            self.directory.mkdir(mode=0o700, parents=True)
        started = _start_time(self.pid)
        if started is None:
            raise LabFailed("cannot read the start time of this process", remedy="mount /proc")
        (self.directory / _START_TIME_FILE).write_text(started)

    def is_alive(self) -> bool:
        """Whether the process of the laboratory runs.

        Without a stored start time, any process with this id is taken for it, except the caller.
        """
        started = _start_time(self.pid)
        try:
            stored = (self.directory / _START_TIME_FILE).read_text()
        except OSError:
            return started is not None and self.pid != os.getpid()
        return started == stored


def new_identity() -> LabIdentity:
    """A new identity of this process."""
    return LabIdentity(os.getpid(), next(_serials))


def _start_time(pid: int) -> str | None:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # The name of the program is in parentheses and can contain any character.
    return stat.rpartition(")")[2].split()[_START_FIELD]

"""Names that say which process they belong to, and whether that process still lives.

An identity is the maker's process id and a serial number. The process's start time is kept in the
laboratory's directory, since process ids are used again. It removes nothing (leftovers.py does).
"""

from __future__ import annotations

import itertools
import os
import re
from pathlib import Path
from typing import Final, NamedTuple, Self

ROOM: Final = Path("/run/orbweaver-lab")
"""Directories of all laboratories of this machine."""

NAMESPACES: Final = Path("/run/netns")
"""Where iproute2 keeps named network namespaces."""

MARK: Final = "ORBWEAVER_LAB"
"""The variable that every process of a laboratory has in its environment."""

_STARTED: Final = "started"
_START_FIELD: Final = 19
"""Of /proc/<pid>/stat after the program's name: ``starttime``, in clock ticks (proc(5))."""

_NAME: Final = re.compile(r"(?:ow-)?(?P<pid>\d+)-(?P<serial>\d+)(?:-.*)?")
_serials: Final = itertools.count(1)


class LabFailed(Exception):
    """A step of the laboratory failed; no error of the product, so none of core/errors.py."""

    def __init__(self, message: str, *, remedy: str = "") -> None:
        super().__init__(f"{message} ({remedy})" if remedy else message)


class LabIdentity(NamedTuple):
    """Which laboratory."""

    pid: int
    serial: int

    @classmethod
    def parse(cls, name: str) -> Self | None:
        """The identity in the name of a directory or a namespace; None for a name of others."""
        found = _NAME.fullmatch(name)
        return cls(int(found["pid"]), int(found["serial"])) if found else None

    def __str__(self) -> str:
        return f"{self.pid}-{self.serial}"

    @property
    def directory(self) -> Path:
        """All files."""
        return ROOM / str(self)

    def name(self, what: str) -> str:
        """The name of a namespace."""
        return f"ow-{self}-{what}"

    def claim(self) -> None:
        """Make the directory, with the word that this process is alive. Raises LabFailed."""
        self.directory.mkdir(mode=0o700, parents=True)
        started = _start_time(self.pid)
        if started is None:
            raise LabFailed("cannot read my own start time: is /proc mounted?")
        (self.directory / _STARTED).write_text(started)

    def is_alive(self) -> bool:
        """Whether its maker lives; without a word of it, any process of that id counts."""
        now = _start_time(self.pid)
        try:
            then = (self.directory / _STARTED).read_text()
        except OSError:
            return now is not None and self.pid != os.getpid()
        return now == then


def new_identity() -> LabIdentity:
    """One that this process has not used yet."""
    return LabIdentity(os.getpid(), next(_serials))


def _start_time(pid: int) -> str | None:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # The name before it is in parentheses and may contain anything.
    return stat.rpartition(")")[2].split()[_START_FIELD]

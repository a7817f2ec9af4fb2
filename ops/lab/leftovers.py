"""What a laboratory has on the machine: processes, namespaces, mounts, control groups, files.

Used twice: to verify that a laboratory left nothing, and to remove what a killed one left. Promise:
what belongs to a living process or to somebody else is never touched.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, NamedTuple

from ops.lab.identity import MARK, NAMESPACES, ROOM, LabFailed, LabIdentity
from ops.lab.programs import run

END_DEADLINE_S: Final = 10.0
POLL_S: Final = 0.02
CONTROL_GROUPS: Final = Path("/sys/fs/cgroup")


class Traces(NamedTuple):
    """All that is there of one laboratory."""

    processes: tuple[int, ...] = ()
    namespaces: tuple[str, ...] = ()
    mounts: tuple[str, ...] = ()
    control_groups: tuple[str, ...] = ()
    directories: tuple[str, ...] = ()

    def __str__(self) -> str:
        said = (f"{name}: {', '.join(map(str, found))}" for name, found in self._asdict().items())
        return "; ".join(text for text, found in zip(said, self, strict=True) if found) or "nothing"


def traces_of(identity: LabIdentity) -> Traces:
    """What is there now."""
    named = (path.name for path in _entries(NAMESPACES))
    directory = identity.directory
    return Traces(
        tuple(_processes(identity)),
        tuple(sorted(name for name in named if name.startswith(identity.name("")))),
        tuple(_mounts_below(directory)),
        tuple(map(str, _control_groups(identity))),
        (str(directory),) if directory.exists() else (),
    )


def remove_dead() -> list[LabIdentity]:
    """Remove everything of laboratories whose maker is dead; which ones. Raises LabFailed."""
    with _alone():
        dead = [identity for identity in _known() if not identity.is_alive()]
        for identity in dead:
            remove(identity)
        return dead


@contextmanager
def _alone() -> Iterator[None]:
    """One at a time on this machine: two that remove the same would be in each other's way."""
    held = os.open(ROOM.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield
    finally:
        os.close(held)


def remove(identity: LabIdentity) -> None:
    """Remove everything of one laboratory; twice is as good as once. Raises LabFailed."""
    _end_processes(identity)
    for name in traces_of(identity).namespaces:
        run(["ip", "netns", "delete", name])
    # The innermost first, or the outer ones are busy.
    for mount in reversed(_mounts_below(identity.directory)):
        run(["umount", "--lazy", mount])
    _remove_control_groups(identity)
    shutil.rmtree(identity.directory, ignore_errors=True)
    with suppress(OSError):
        ROOM.rmdir()
    left = traces_of(identity)
    if left != Traces():
        raise LabFailed(f"cannot remove all of laboratory {identity}: {left}")


def _known() -> list[LabIdentity]:
    names = [path.name for path in _entries(ROOM)]
    names += [path.name for path in _entries(NAMESPACES) if path.name.startswith("ow-")]
    return sorted({found for name in names if (found := LabIdentity.parse(name))})


def _entries(directory: Path) -> list[Path]:
    try:
        return list(directory.iterdir())
    except FileNotFoundError:
        return []


def _processes(identity: LabIdentity) -> Iterator[int]:
    mark = f"{MARK}={identity}".encode()
    for path in Path("/proc").iterdir():
        if not path.name.isdigit() or int(path.name) == os.getpid():
            continue
        # One that ends meanwhile is none; a zombie has no environment any more.
        with suppress(OSError):
            if mark in (path / "environ").read_bytes().split(b"\0"):
                yield int(path.name)


def _end_processes(identity: LabIdentity) -> None:
    deadline = time.monotonic() + END_DEADLINE_S
    while found := list(_processes(identity)):
        if time.monotonic() > deadline:
            raise LabFailed(f"processes of laboratory {identity} do not end: {found}")
        for pid in found:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(POLL_S)


def _remove_control_groups(identity: LabIdentity) -> None:
    deadline = time.monotonic() + END_DEADLINE_S
    while found := _control_groups(identity):
        for group in found:
            # One is busy for as long as its last process takes to be gone altogether.
            with suppress(OSError):
                for inner in sorted(group.rglob("*/"), reverse=True):
                    inner.rmdir()
                group.rmdir()
        if time.monotonic() > deadline:
            raise LabFailed(f"control groups of laboratory {identity} are busy: {found}")
        time.sleep(POLL_S)


def _mounts_below(directory: Path) -> list[str]:
    """Mount points in the order in which they were made."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    points = [line.split()[4].encode().decode("unicode_escape") for line in lines]
    return [point for point in points if Path(point).is_relative_to(directory)]


def _control_groups(identity: LabIdentity) -> list[Path]:
    """Of containers; with version 1 of the interface there is one for each controller."""
    name = identity.name("pods")
    places = [CONTROL_GROUPS, *_entries(CONTROL_GROUPS)]
    return sorted({path.resolve() / name for path in places if (path / name).is_dir()})

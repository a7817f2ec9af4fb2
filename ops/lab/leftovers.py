"""Finds and removes the processes, namespaces, mounts, cgroups and files of a laboratory."""

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

from ops.lab.identity import (
    LABORATORIES_FOLDER,
    LABORATORY_VARIABLE,
    NAMESPACES_FOLDER,
    LabFailed,
    LabIdentity,
)
from ops.lab.programs import run

END_DEADLINE_S: Final = 10.0
POLL_S: Final = 0.02
CONTROL_GROUPS: Final = Path("/sys/fs/cgroup")
PROCESSES: Final = "cgroup.procs"

OTHER_PID_NAMESPACE: Final = 0
"""The line in ``cgroup.procs`` for a process of another PID namespace; not a process id.

A signal to 0 would reach the process group of this process.
"""


class LabResources(NamedTuple):
    """What one laboratory has on this machine."""

    processes: tuple[int, ...] = ()
    namespaces: tuple[str, ...] = ()
    mounts: tuple[str, ...] = ()
    control_groups: tuple[str, ...] = ()
    directories: tuple[str, ...] = ()

    def __str__(self) -> str:
        present = {name: values for name, values in self._asdict().items() if values}
        texts = (f"{name}: {', '.join(map(str, values))}" for name, values in present.items())
        return "; ".join(texts) or "nothing"


def resources_of(identity: LabIdentity) -> LabResources:
    """Find the resources of a laboratory."""
    names = (path.name for path in _entries(NAMESPACES_FOLDER))
    directory = identity.directory
    return LabResources(
        processes=tuple(sorted(_processes(identity))),
        namespaces=tuple(sorted(name for name in names if name.startswith(identity.name("")))),
        mounts=tuple(_mounts_below(directory)),
        control_groups=tuple(map(str, _control_groups(identity))),
        directories=(str(directory),) if directory.exists() else (),
    )


def remove_dead() -> list[LabIdentity]:
    """Remove the laboratories whose process has ended; return the identities. Raises LabFailed."""
    with _machine_lock():
        dead = [identity for identity in _known_laboratories() if not identity.is_alive()]
        for identity in dead:
            remove(identity)
        return dead


@contextmanager
def _machine_lock() -> Iterator[None]:
    """Hold a lock of this machine: two processes must not remove the same laboratory."""
    directory = os.open(LABORATORIES_FOLDER.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)
        yield
    finally:
        os.close(directory)


def remove(identity: LabIdentity) -> None:
    """Remove everything of one laboratory; idempotent. Raises LabFailed."""
    _end_processes(identity)
    for name in resources_of(identity).namespaces:
        run(["ip", "netns", "delete", name])
    # The innermost first: an outer mount is busy while an inner one exists.
    for mount in reversed(_mounts_below(identity.directory)):
        run(["umount", "--lazy", mount])
    _remove_control_groups(identity)
    shutil.rmtree(identity.directory, ignore_errors=True)
    with suppress(OSError):
        LABORATORIES_FOLDER.rmdir()
    remaining = resources_of(identity)
    if remaining != LabResources():
        raise LabFailed(f"cannot remove all of laboratory {identity}; these remain: {remaining}")


def _known_laboratories() -> list[LabIdentity]:
    names = [path.name for path in _entries(LABORATORIES_FOLDER)]
    names += [path.name for path in _entries(NAMESPACES_FOLDER) if path.name.startswith("ow-")]
    return sorted({identity for name in names if (identity := LabIdentity.parse(name))})


def _entries(directory: Path) -> list[Path]:
    try:
        return list(directory.iterdir())
    except FileNotFoundError:
        return []


def _processes(identity: LabIdentity) -> set[int]:
    """Processes with the laboratory's environment variable, and all processes in Pods' cgroups."""
    variable = f"{LABORATORY_VARIABLE}={identity}".encode()
    pids = {
        int(line)
        for group in _control_groups(identity)
        for process_list in (group / PROCESSES, *group.rglob(f"*/{PROCESSES}"))
        for line in _lines(process_list)
    }
    for path in Path("/proc").iterdir():
        if path.name.isdigit():
            # A process may end meanwhile, and a zombie has no environment.
            with suppress(OSError):
                if variable in (path / "environ").read_bytes().split(b"\0"):
                    pids.add(int(path.name))
    return pids - {OTHER_PID_NAMESPACE, os.getpid()}


def _lines(path: Path) -> list[str]:
    with suppress(OSError):
        return path.read_text().splitlines()
    return []


def _end_processes(identity: LabIdentity) -> None:
    deadline = time.monotonic() + END_DEADLINE_S
    while pids := _processes(identity):
        if time.monotonic() > deadline:
            raise LabFailed(
                f"processes of laboratory {identity} do not end after SIGKILL: {sorted(pids)}"
            )
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(POLL_S)


def _remove_control_groups(identity: LabIdentity) -> None:
    deadline = time.monotonic() + END_DEADLINE_S
    while groups := _control_groups(identity):
        for group in groups:
            # A cgroup is busy until the kernel has removed its last process.
            with suppress(OSError):
                for inner in sorted(group.rglob("*/"), reverse=True):
                    inner.rmdir()
                group.rmdir()
        if time.monotonic() > deadline:
            names = ", ".join(map(str, groups))
            raise LabFailed(
                f"control groups of laboratory {identity} still have processes: {names}"
            )
        time.sleep(POLL_S)


def _mounts_below(directory: Path) -> list[str]:
    """The mount points below a directory, oldest first."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    points = [line.split()[4].encode().decode("unicode_escape") for line in lines]
    return [point for point in points if Path(point).is_relative_to(directory)]


def _control_groups(identity: LabIdentity) -> list[Path]:
    """The cgroups of the laboratory's Pods. cgroup v1 has one under each cgroup controller."""
    name = identity.name("pods")
    parents = [CONTROL_GROUPS, *_entries(CONTROL_GROUPS)]
    return sorted({path.resolve() / name for path in parents if (path / name).is_dir()})

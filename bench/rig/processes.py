"""Reads CPU time and memory of processes from the kernel."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

_KIB_PER_MB: Final = 1_000_000 / 1024
_PID_SHIFT: Final = 3
_CPU_CLOCK: Final = 2
"""CPUCLOCK_SCHED of Linux's ``posix-timers.h``, for MAKE_PROCESS_CPUCLOCK."""


def cpu_s(pid: int) -> float:
    """CPU seconds of all threads so far, user and system."""
    # /proc/<pid>/stat counts in steps of 10 ms, too coarse for an idle process.
    return time.clock_gettime(~pid << _PID_SHIFT | _CPU_CLOCK)


def rss_mb(pid: int) -> float:
    """Resident memory in MB (10^6 bytes)."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / _KIB_PER_MB
    raise ProcessLookupError(f"process {pid} has exited")


def running_group_members(leader: int) -> list[int]:
    """The process ids of a process group, without zombies."""
    members = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, member_of = stat.read_text().rpartition(")")[2].split()[:3]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(member_of) == leader and state != "Z":
            members.append(int(stat.parent.name))
    return members

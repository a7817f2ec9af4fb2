"""What the kernel says of a process: CPU time and memory, read from /proc. Only reads."""

from __future__ import annotations

import os
from pathlib import Path

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_KIB_PER_MB = 1_000_000 / 1024
_UTIME = 11
"""Place of utime in /proc/<pid>/stat behind the name, which may hold blanks (proc(5))."""


def cpu_s(pid: int) -> float:
    """CPU seconds of all threads so far, user and system; steps of 10 ms."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[_UTIME : _UTIME + 2])) / _TICKS_PER_S


def rss_mb(pid: int) -> float:
    """Resident memory in MB (10^6 bytes)."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / _KIB_PER_MB
    raise ProcessLookupError(f"process {pid} has no memory any more")

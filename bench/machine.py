"""Describes the machine and its load."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path

from bench.rig.lab import DATA_PARENT


def facts() -> dict[str, str]:
    """Hardware, kernel, versions and load: name -> text."""
    return {
        "processor": f"{len(os.sched_getaffinity(0))} cores, {_processor()}",
        "memory": f"{_memory_gb():.0f} GB",
        "kernel": platform.release(),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "etcd": _etcd(),
        "disk": f"{_file_system(DATA_PARENT)} at {DATA_PARENT}, etcd syncs to it",
        "load": load(),
    }


def load() -> str:
    """The load averages of 1, 5 and 15 minutes."""
    return " ".join(f"{value:.2f}" for value in os.getloadavg())


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _memory_gb() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9


def _etcd() -> str:
    process = subprocess.run(["etcd", "--version"], capture_output=True, text=True, check=False)
    return process.stdout.partition("\n")[0].rpartition(" ")[2] or "not installed"


def _file_system(path: str) -> str:
    mounts = (line.split() for line in Path("/proc/self/mounts").read_text().splitlines())
    containing = [
        (len(point), kind)
        for _, point, kind, *_ in mounts
        if path == point or path.startswith(point.rstrip("/") + "/")
    ]
    return max(containing)[1]

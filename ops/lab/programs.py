"""Finds and runs the programs that a laboratory needs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from ops.lab.identity import LabFailed

RUN_DEADLINE_S: Final = 30.0
OUTPUT_CHARACTERS_MAX: Final = 600

PLUGIN_DIRECTORIES: Final = (Path("/usr/lib/cni"), Path("/opt/cni/bin"))

PROGRAMS: Final = {
    "ip": "iproute2",
    "nsenter": "util-linux",
    "setpriv": "util-linux",
    "ping": "iputils-ping",
    "etcd": "etcd-server",
}
"""Program -> Debian package."""


def why_impossible() -> str:
    """Why this machine cannot run a laboratory, with a remedy; "" if it can."""
    if os.geteuid() != 0:
        return "creating network namespaces requires root (run as root)"
    missing = [package for name, package in PROGRAMS.items() if not shutil.which(name)]
    if not any((directory / "macvlan").exists() for directory in PLUGIN_DIRECTORIES):
        missing.append("containernetworking-plugins")
    if missing:
        packages = ", ".join(sorted(set(missing)))
        return f"not installed: {packages} (run `scripts/setup.sh run` as root)"
    if not Path("/proc/sys/net/ipv6").exists():
        return "this machine has no IPv6 (boot it without ipv6.disable=1)"
    done = subprocess.run(
        ["unshare", "--net", "ip", "link", "add", "x", "type", "bridge"],
        capture_output=True,
        check=False,
        text=True,
        timeout=RUN_DEADLINE_S,
    )
    if done.returncode:
        return f"cannot create a network namespace with a bridge: {_output(done)}"
    return ""


def check_possible() -> None:
    """Raise LabFailed if this machine cannot run a laboratory."""
    reason = why_impossible()
    if reason:
        raise LabFailed(reason)


def plugin(name: str) -> Path:
    """The path of an installed CNI plugin. Raises LabFailed."""
    for directory in PLUGIN_DIRECTORIES:
        if (directory / name).exists():
            return directory / name
    directories = " or ".join(map(str, PLUGIN_DIRECTORIES))
    raise LabFailed(
        f"there is no CNI plugin {name} in {directories}",
        remedy="install containernetworking-plugins",
    )


def console_script(name: str) -> str:
    """The path of a console script of this project. Raises LabFailed."""
    script = Path(sys.executable).parent / name
    if not script.exists():
        raise LabFailed(f"there is no {script}", remedy="run scripts/setup.sh")
    return str(script)


def run(
    command: Sequence[str],
    *,
    stdin: str = "",
    environment: Mapping[str, str] | None = None,
    deadline_s: float = RUN_DEADLINE_S,
) -> str:
    """Run a program and return its standard output. Raises LabFailed if the program fails."""
    done = attempt(command, stdin=stdin, environment=environment, deadline_s=deadline_s)
    if done.returncode:
        text = f"`{' '.join(command)}` failed with {done.returncode}: {_output(done)}"
        raise LabFailed(text)
    return done.stdout


def attempt(
    command: Sequence[str],
    *,
    stdin: str = "",
    environment: Mapping[str, str] | None = None,
    directory: Path | None = None,
    deadline_s: float = RUN_DEADLINE_S,
) -> subprocess.CompletedProcess[str]:
    """Run a program, which may fail, and return its result. Raises LabFailed after the deadline."""
    try:
        return subprocess.run(
            command,
            input=stdin,
            capture_output=True,
            check=False,
            text=True,
            env=dict(environment) if environment is not None else None,
            cwd=directory,
            timeout=deadline_s,
        )
    except subprocess.TimeoutExpired:
        text = f"`{' '.join(command)}` did not end within {deadline_s:g} s"
        raise LabFailed(text) from None


def _output(done: subprocess.CompletedProcess[str]) -> str:
    text = " ".join((done.stderr.strip() or done.stdout.strip()).split())
    return text[-OUTPUT_CHARACTERS_MAX:] or "no output"

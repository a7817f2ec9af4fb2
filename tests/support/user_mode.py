"""Boots Debian's user-mode Linux on the host's file system.

On processors with AMX the kernel needs the shim ``whole_xstate.c``, which is preloaded if a trial
boot fails.
"""

from __future__ import annotations

import functools
import os
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Final, NamedTuple

from tests.support.parts import USER_MODE

UML_PROGRAM: Final = "linux.uml"
UML_MODULES: Final = Path("/usr/lib/uml/modules")
SHIM: Final = Path(__file__).with_name("whole_xstate.c")
MISSING: Final = "no linux.uml, its modules, or modprobe (Debian's user-mode-linux and kmod)"
STARTED: Final = "started"

PROBE_DEADLINE_S: Final = 60
BOOT_DEADLINE_S: Final = 600
COMPILE_DEADLINE_S: Final = 60
PROBE_MEMORY: Final = "128M"
MEMORY: Final = "768M"
REASON_CHARACTERS: Final = 200

INIT: Final = """#!/bin/sh
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t tmpfs tmpfs /run
release=$(uname -r)
mkdir -p /run/root/lib/modules /run/out /run/netns
ln -s {modules}/$release /run/root/lib/modules/$release
mount -t hostfs none /run/out -o hostfs={out}
export MODPROBE_OPTIONS="-d /run/root"
sh /run/out/inside.sh
echo o >/proc/sysrq-trigger
sleep 10
"""


class UserModeLinux:
    """A machine that runs a script in the user-mode kernel."""

    name: Final = USER_MODE

    @staticmethod
    def why_not() -> str:
        """Why the kernel cannot boot here; "" if it can."""
        if not (shutil.which(UML_PROGRAM) and shutil.which("modprobe") and UML_MODULES.is_dir()):
            return MISSING
        return _probe().why_not

    @staticmethod
    def run(script: str, out: Path) -> str:
        """Run the script with ``out`` at /run/out; return the console output."""
        preload = _compile(out)[0] if _probe().needs_shim else ""
        return _boot(script, out, MEMORY, BOOT_DEADLINE_S, preload)


class Probe(NamedTuple):
    """The result of trial boots."""

    needs_shim: bool
    why_not: str


@functools.cache
def _probe() -> Probe:
    fault = _try_boot(with_shim=False)
    if not fault:
        return Probe(needs_shim=False, why_not="")
    fault_with_shim = _try_boot(with_shim=True)
    why_not = f"{fault}; {fault_with_shim}" if fault_with_shim else ""
    return Probe(needs_shim=True, why_not=why_not)


def _try_boot(*, with_shim: bool) -> str:
    """Boot once; return why the kernel did not start, or ""."""
    with tempfile.TemporaryDirectory(prefix="ow-uml-") as name:
        out = Path(name)
        preload, fault = _compile(out) if with_shim else ("", "")
        if fault:
            return fault
        script = f"echo yes >/run/out/{STARTED}"
        console = _boot(script, out, PROBE_MEMORY, PROBE_DEADLINE_S, preload)
        if (out / STARTED).exists():
            return ""
    faults = [line for line in console.splitlines() if "failed, errno" in line or "panic" in line]
    reason = (faults or console.splitlines() or ["no output"])[0].strip()
    failure = "it does not boot with the shim" if with_shim else "it does not boot"
    return f"{failure}: {reason[:REASON_CHARACTERS]}"


def _compile(directory: Path) -> tuple[str, str]:
    """Compile the shim; return the path of the library and "", or "" and the error."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        return "", f"no C compiler for {SHIM.name}"
    library = directory / "whole_xstate.so"
    command = [compiler, "-shared", "-fPIC", "-O2", "-o", str(library), str(SHIM)]
    completed = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=COMPILE_DEADLINE_S
    )
    if completed.returncode:
        return "", f"{compiler} failed: {completed.stderr[:REASON_CHARACTERS]}"
    return str(library), ""


def _boot(script: str, out: Path, memory: str, deadline_s: int, preload: str) -> str:
    (out / "inside.sh").write_text(script)
    init = out / "init.sh"
    init.write_text(INIT.format(modules=UML_MODULES, out=shlex.quote(str(out))))
    init.chmod(0o755)
    # One CPU: with several CPUs the same run takes three times as long.
    cpu = max(os.sched_getaffinity(0))
    kernel = [
        *("taskset", "-c", str(cpu), UML_PROGRAM, f"mem={memory}", "rootfstype=hostfs"),
        *("root=/dev/root", "rootflags=/", "ro", f"init={init}", "con=null", "con0=fd:0,fd:1"),
        "quiet",
    ]
    directory = "/dev/shm" if Path("/dev/shm").is_dir() else tempfile.gettempdir()
    libraries = [preload, os.environ.get("LD_PRELOAD", "")]
    environment = {"TMPDIR": directory, "LD_PRELOAD": " ".join(filter(None, libraries))}
    try:
        completed = subprocess.run(
            kernel,
            env=os.environ | environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
            timeout=deadline_s,
        )
    except subprocess.TimeoutExpired as timeout:
        printed = (timeout.stdout or b"").decode(errors="replace")
        return f"{printed}\nnot finished within {deadline_s} s"
    return completed.stdout.decode(errors="replace")

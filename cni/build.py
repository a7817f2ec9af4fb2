"""Compiles ``plugin.c``, the one program that is ``spiderpool``, ``coordinator`` and ``ifacer``.

Promise: a static, position-independent program that needs no library and no interpreter of the
node; the same source and compiler make the same bytes. Standard library alone, because the build
of the wheel runs it before anything is installed.

The C library is musl where it is installed. Before ``main``, glibc executes CPUID some thirty times
to choose among its string functions, and in a virtual machine the hypervisor answers each of these
instructions. That is two thirds of the CPU of a call.

    python -m cni.build [OUTPUT]      CC names the compiler, such as aarch64-linux-gnu-gcc
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

SOURCE = Path(__file__).with_name("plugin.c")
PROGRAM = Path(__file__).with_name("plugin")
"""Where the compiled program is in the package; not part of the sources."""

WARNINGS = ("-std=gnu11", "-Wall", "-Wextra", "-Wshadow", "-Werror")
FLAGS = (
    "-O2",
    "-fPIE",
    "-static-pie",
    "-s",
    "-fstack-protector-strong",
    "-Wl,-z,relro,-z,now,-z,noexecstack",
    "-Wl,--build-id=none",
    f"-ffile-prefix-map={SOURCE.parent}=cni",
)
MUSL_COMPILER = "musl-gcc"
"""A wrapper around gcc, of Debian's musl-tools."""

COMPILE_S_MAX = 120


class CompilerFailed(Exception):
    """The program was not made; the text is what the compiler printed, or what is missing."""


def compiler() -> list[str]:
    """The command of the compiler with the library of the machine: that of CC, else gcc."""
    return shlex.split(os.environ.get("CC", "")) or ["gcc"]


def musl_compiler() -> list[str]:
    """The command of the compiler with musl; without it that of ``compiler``, and so with CC."""
    is_chosen = os.environ.get("CC") or not shutil.which(MUSL_COMPILER)
    return compiler() if is_chosen else [MUSL_COMPILER]


def compile_plugin(
    output: Path,
    flags: Sequence[str] = FLAGS,
    constants: Mapping[str, str] | None = None,
    command: Sequence[str] = (),
) -> None:
    """Compile to ``output``. ``constants`` replace limits of the source, for tests.

    ``command`` of the compiler, by default that of ``musl_compiler``. Raises CompilerFailed.
    """
    defined = [f"-D{name}={value}" for name, value in (constants or {}).items()]
    beside = output.with_name(f".{output.name}.{os.getpid()}")
    called = [*(command or musl_compiler()), *WARNINGS, *defined, *flags]
    try:
        done = subprocess.run(
            [*called, "-o", str(beside), str(SOURCE)],
            capture_output=True,
            text=True,
            check=False,
            timeout=COMPILE_S_MAX,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CompilerFailed(f"{called[0]}: {error}; install gcc and musl-tools") from None
    if done.returncode:
        raise CompilerFailed(done.stderr)
    beside.replace(output)  # a call that runs meanwhile keeps the program that it has


if __name__ == "__main__":
    compile_plugin(Path(sys.argv[1]) if sys.argv[1:] else PROGRAM)

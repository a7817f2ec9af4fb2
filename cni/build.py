"""Compiles ``plugin.c``, which is installed as ``spiderpool``, ``coordinator`` and ``ifacer``.

The program is linked statically, and the build is reproducible. Import only the standard library
here: the build of the wheel runs this module before any dependency is installed.

    python -m cni.build [OUTPUT]      CC sets the compiler, such as aarch64-linux-gnu-gcc
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
PROGRAM_PATH = Path(__file__).with_name("plugin")

WARNINGS = ("-std=gnu11", "-Wall", "-Wextra", "-Wshadow", "-Werror")
COMPILER_FLAGS = (
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
"""Debian's package musl-tools has this compiler.

glibc executes CPUID about thirty times before ``main``. In a virtual machine, that takes two thirds
of the program's CPU time.
"""

COMPILE_S_MAX = 120


class CompilerFailed(Exception):
    """The compiler failed, timed out or is missing. The text is its output or the cause."""


def compiler() -> list[str]:
    """The command in the variable CC; gcc if CC is not set."""
    return shlex.split(os.environ.get("CC", "")) or ["gcc"]


def musl_compiler() -> list[str]:
    """musl-gcc if CC is not set and musl-gcc is installed; else ``compiler()``."""
    if os.environ.get("CC") or not shutil.which(MUSL_COMPILER):
        return compiler()
    return [MUSL_COMPILER]


def compile_plugin(
    output: Path,
    flags: Sequence[str] = COMPILER_FLAGS,
    constants: Mapping[str, str] | None = None,
    command: Sequence[str] = (),
) -> None:
    """Compile ``plugin.c`` to ``output``. Raises CompilerFailed.

    ``constants``: limits in the source, set by tests. ``command`` (): use ``musl_compiler()``.
    """
    definitions = [f"-D{name}={value}" for name, value in (constants or {}).items()]
    temporary = output.with_name(f".{output.name}.{os.getpid()}")
    compile_command = [*(command or musl_compiler()), *WARNINGS, *definitions, *flags]
    try:
        process = subprocess.run(
            [*compile_command, "-o", str(temporary), str(SOURCE)],
            capture_output=True,
            text=True,
            check=False,
            timeout=COMPILE_S_MAX,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        is_missing = isinstance(error, FileNotFoundError)
        remedy = "; install it, or set CC to a C compiler" if is_missing else ""
        raise CompilerFailed(f"{compile_command[0]}: {error}{remedy}") from None
    if process.returncode:
        raise CompilerFailed(process.stderr)
    temporary.replace(output)  # atomic: a running plugin keeps the old file


if __name__ == "__main__":
    compile_plugin(Path(sys.argv[1]) if sys.argv[1:] else PROGRAM_PATH)

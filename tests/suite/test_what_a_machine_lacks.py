"""A test run on a machine without optional parts passes, and ends with a table of these parts."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final, NamedTuple

import pytest

from tests.support.parts import REMEDIES, USER_MODE, needs
from tests.support.user_mode import UML_MODULES, UML_PROGRAM, UserModeLinux

ROOT: Final = Path(__file__).resolve().parents[2]
PANIC: Final = "ptrace set fp regs failed, errno = 14"
PANICKING_UML: Final = f"""#!/bin/sh
echo "{PANIC}"
echo "Kernel panic - not syncing: Kernel mode signal 4"
exit 134
"""
"""Fails as Debian's user-mode Linux does on a processor with AMX."""

AMX_LIBRARY: Final = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <sys/uio.h>
enum { GET = 0x4204, SET = 0x4205, BYTES = 11008 };
long ptrace(int request, int pid, void *address, void *data)
{
    long (*next)(int, int, void *, void *) = dlsym(RTLD_NEXT, "ptrace");
    struct iovec *state = data;
    size_t wanted = request == GET ? state->iov_len : 0;
    if (request == SET && state->iov_len < BYTES) {
        errno = EFAULT;
        return -1;
    }
    long result = next(request, pid, address, data);
    if (request == GET && result == 0)
        state->iov_len = wanted < BYTES ? wanted : BYTES;
    return result;
}
"""
"""A library whose ptrace behaves as on a processor with AMX."""

CONFTEST: Final = """
import subprocess
from tests.conftest import *
from tests.conftest import pytest_configure
from tests.support import uml


class Substitute:
    name = "substitute"

    def why_not(self):
        return "" if {can_substitute} else "no qemu"

    def run(self, script, out):
        text = script.replace("/run/out", str(out)).replace("ip link", ": ip link")
        text = text.replace("modprobe", ": modprobe").replace("TMPDIR=/run", "TMPDIR=/tmp")
        subprocess.run(["sh", "-c", text], check=True)
        return ""


uml.MACHINES = (uml.UserModeLinux(), Substitute())
"""
TESTS: Final = """
import pytest

from tests.support.parts import needs


@pytest.mark.uml
@pytest.mark.parametrize("number", range(3))
def test_a_bond(number):
    assert number < 3


@pytest.mark.skip(reason=needs("kubelet", "no kubelet in /nowhere"))
def test_a_node():
    raise AssertionError


@pytest.mark.skip(reason="another reason")
def test_outside():
    raise AssertionError


def test_that_passes():
    pass
"""
TESTS_OF_PROGRAMS: Final = """
import pytest

from tests.support.parts import needs


@pytest.mark.skip(reason=needs("prometheus", "promtool"))
def test_alerts():
    pass


@pytest.mark.skip(reason=needs("kubelet", "no kubelet in /nowhere"))
def test_a_node():
    pass
"""
CONFIGURATION: Final = "[pytest]\nmarkers = uml: in a machine\n"


class Run(NamedTuple):
    """An inner run."""

    code: int
    output: str

    @property
    def rows(self) -> list[list[str]]:
        """The cells of each row of the table of missing parts."""
        lines = self.output.splitlines()
        (start,) = (at for at, line in enumerate(lines) if "not tried on this machine" in line)
        return [row for line in lines[start + 2 :] if len(row := re.split(" {2,}", line)) == 3]


def run_inner(
    project: Path,
    path: str,
    *,
    can_substitute: bool,
    workers: int = 0,
    tests: str = TESTS,
    variables: Mapping[str, str] = MappingProxyType({}),
) -> Run:
    (project / "conftest.py").write_text(CONFTEST.format(can_substitute=can_substitute))
    (project / "pytest.ini").write_text(CONFIGURATION)
    (project / "test_them.py").write_text(tests)
    inherited = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith("PYTEST_") and key != "CI"
    }
    command = [sys.executable, "-m", "pytest", "-q", "--import-mode=importlib", "--rootdir=."]
    completed = subprocess.run(
        [*command, "-p", "no:cacheprovider", "-n", str(workers)],
        cwd=project,
        env=inherited | {"PYTHONPATH": str(ROOT), "PATH": path, **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    return Run(completed.returncode, completed.stdout + completed.stderr)


@pytest.fixture
def path_with_panicking_uml(tmp_path: Path) -> str:
    """A PATH on which ``linux.uml`` is ``PANICKING_UML``."""
    if not (UML_MODULES.is_dir() and shutil.which("modprobe")):
        pytest.skip(needs(USER_MODE, "its modules are missing"))
    program = tmp_path / "bin" / UML_PROGRAM
    program.parent.mkdir()
    program.write_text(PANICKING_UML)
    program.chmod(0o755)
    return f"{program.parent}:{os.environ['PATH']}"


def why_uml_cannot_boot(path: str) -> str:
    text = "from tests.support.user_mode import UserModeLinux; print(UserModeLinux.why_not())"
    completed = subprocess.run(
        [sys.executable, "-c", text],
        cwd=ROOT,
        env=os.environ | {"PATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    return completed.stdout.strip()


@pytest.mark.parametrize("workers", [0, 2])
def test_a_run_passes_and_lists_the_skipped_tests_when_no_machine_boots(
    tmp_path: Path, path_with_panicking_uml: str, workers: int
) -> None:
    result = run_inner(tmp_path, path_with_panicking_uml, can_substitute=False, workers=workers)

    assert result.code == 0, result.output
    assert result.rows == [
        ["another reason", "1 tests", "see the reason"],
        ["kubelet", "1 tests", REMEDIES["kubelet"]],
        [USER_MODE, "3 tests", REMEDIES[USER_MODE]],
    ]
    (because,) = re.findall(f"^ because: .*{PANIC}.*$", result.output, re.MULTILINE)
    assert "substitute: no qemu" in because
    assert PANIC in why_uml_cannot_boot(path_with_panicking_uml)


def test_a_second_machine_runs_the_tests_if_the_first_machine_does_not_boot(
    tmp_path: Path, path_with_panicking_uml: str
) -> None:
    result = run_inner(tmp_path, path_with_panicking_uml, can_substitute=True)

    assert result.code == 0, result.output
    assert "4 passed" in result.output
    assert [USER_MODE, "3 ran on substitute", REMEDIES[USER_MODE]] in result.rows


def test_user_mode_linux_boots_on_a_processor_with_amx(tmp_path: Path) -> None:
    compiler = shutil.which("cc")
    if compiler is None or UserModeLinux.why_not():
        pytest.skip(needs(USER_MODE, UserModeLinux.why_not() or "no C compiler"))
    source = tmp_path / "large_state.c"
    source.write_text(AMX_LIBRARY)
    library = str(source.with_suffix(".so"))
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, str(source)], check=True)
    program = tmp_path / UML_PROGRAM
    real_program = shutil.which(UML_PROGRAM)
    program.write_text(f'#!/bin/sh\nLD_PRELOAD="$LD_PRELOAD {library}" exec {real_program} "$@"\n')
    program.chmod(0o755)
    without_compiler = tmp_path / "bin"
    without_compiler.mkdir()
    for name in ("taskset", "sh", "modprobe"):
        (without_compiler / name).symlink_to(shutil.which(name) or name)

    assert PANIC in why_uml_cannot_boot(f"{tmp_path}:{without_compiler}")
    assert why_uml_cannot_boot(f"{tmp_path}:{os.environ['PATH']}") == ""


@pytest.mark.parametrize("variables", [{"CI": "true"}, {}])
def test_a_missing_program_that_ci_installs_is_an_error_only_in_ci(
    tmp_path: Path, variables: dict[str, str]
) -> None:
    result = run_inner(
        tmp_path,
        os.environ["PATH"],
        can_substitute=False,
        tests=TESTS_OF_PROGRAMS,
        variables=variables,
    )

    # One test needs prometheus, which CI installs. The other test needs kubelet.
    assert ("1 skipped, 1 error" if variables else "2 skipped") in result.output
    assert result.code == bool(variables), result.output

"""The installed file: what it loads, which interpreters run it, and what an upgrade does to it."""

from __future__ import annotations

import itertools
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from core.errors import BadInput
from ops import installer
from tests.executables.fake_agent import WAIT_S, answering, frame
from tests.executables.plugin import INTERPRETER, Spiderpool, replaced_once


def fit_interpreters() -> list[str]:
    """Return every Python on this machine's path that can run the executables."""
    found = []
    for minor in itertools.takewhile(lambda minor: minor < 20, itertools.count(11)):
        name = shutil.which(f"python3.{minor}")
        try:
            found.append(installer.real_interpreter(name or "").path)
        except BadInput:
            continue
    return sorted({*found, INTERPRETER})


def imports_of(spiderpool: Spiderpool, verb: str) -> set[str]:
    """Return the modules this call imports that a bare interpreter does not have anyway."""
    command = [INTERPRETER, "-I", "-S", "-X", "importtime"]
    environment = spiderpool.environment(verb)
    options = {"env": environment, "capture_output": True, "timeout": WAIT_S}
    bare = subprocess.run([*command, "-c", "pass"], input=b"", check=True, **options)  # type: ignore[call-overload]
    netconf = spiderpool.netconf()
    call = subprocess.run([*command, spiderpool.path], input=netconf, check=True, **options)  # type: ignore[call-overload]
    names = [set(re.findall(rb"\| +([\w.]+)$", run.stderr, re.MULTILINE)) for run in (call, bare)]
    assert names[1]
    return {name.decode() for name in names[0] - names[1]}


def test_version_imports_nothing_that_is_not_built_in(spiderpool: Spiderpool) -> None:
    assert imports_of(spiderpool, "VERSION") <= set(sys.builtin_module_names)


def test_an_add_imports_nothing_more_than_the_socket(spiderpool: Spiderpool) -> None:
    with spiderpool.agent(answering(frame(0, b"{}"))):
        imported = imports_of(spiderpool, "ADD")

    assert imported - set(sys.builtin_module_names) <= {"_socket"}


@pytest.mark.parametrize("interpreter", fit_interpreters())
def test_every_fit_python_of_this_machine_runs_it(spiderpool: Spiderpool, interpreter: str) -> None:
    source = installer.source_of("spiderpool")
    spiderpool.path.write_bytes(installer.executable(source, interpreter))

    with spiderpool.agent(answering(frame(0, b"answer"))):
        carried = spiderpool.call("ADD")
    failed = spiderpool.call("DEL")
    version = spiderpool.call("VERSION", b'{"cniVersion":"0.4.0"}')

    assert (carried.returncode, carried.stdout, carried.stderr) == (0, b"answer", b"")
    assert (failed.returncode, failed.stderr) == (1, b"")
    assert b'"code": 11' in failed.stdout
    assert version.stdout.startswith(b'{"cniVersion":"0.4.0"')


def test_code_compiled_by_another_python_is_not_run_but_the_source_is(
    spiderpool: Spiderpool,
) -> None:
    text = spiderpool.path.read_text()
    stale = replaced_once(text, "\nMAGIC, CODE = (b'", "\nMAGIC, CODE = (b'other ")
    stale = re.sub(r"(CODE = \(b'.*?', b').*", r"\1not code at all')", stale)
    spiderpool.path.write_text(stale)

    with spiderpool.agent(answering(frame(0, b"answer"))):
        result = spiderpool.call()

    assert (result.returncode, result.stdout, result.stderr) == (0, b"answer", b"")


def test_the_source_can_be_read_in_the_installed_file(spiderpool: Spiderpool) -> None:
    spiderpool.install()

    assert installer.source_of("spiderpool") in spiderpool.path.read_text()


@pytest.mark.parametrize("folder", ["with a blank", "x" * 120])
def test_an_interpreter_that_no_first_line_can_name_is_started_through_the_shell(
    spiderpool: Spiderpool, short_path: Path, folder: str
) -> None:
    python = short_path / folder / "python3"
    python.parent.mkdir()
    python.symlink_to(INTERPRETER)
    source = installer.source_of("spiderpool")
    spiderpool.path.write_bytes(installer.executable(source, str(python)))

    with spiderpool.agent(answering(frame(7, b"answer"))):
        result = spiderpool.call()

    assert spiderpool.path.read_bytes().startswith(b"#!/bin/sh\n")
    assert (result.returncode, result.stdout, result.stderr) == (7, b"answer", b"")


def test_an_interpreter_whose_path_would_need_quoting_is_refused() -> None:
    with pytest.raises(BadInput, match="plain path"):
        installer.first_lines("/opt/o'brien/bin/python3")

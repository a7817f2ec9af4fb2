"""Put the CNI executables and the network configuration in place on a node, and take them away.

Promise: whoever runs or reads an installed file meanwhile sees the old one or the new one, never a
part (temporary file in the same directory, fsync, rename); the conflist comes last, because a
runtime calls the executables as soon as it sees one; what is already right is not written again.
``uninstall`` removes what ``install`` has recorded and nothing that was changed since.
It must never leave an executable whose interpreter has not been tried, and never runs an agent.

An installed executable is one file: a first line that names a real interpreter, the readable source
as a string, and the same source compiled, which is used while the interpreter is the one it was
compiled by. Compiling costs 2 ms a call, which is a fifth of the whole call (docs/cni.md).
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.resources
import json
import os
import re
import stat
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, NamedTuple

from core.errors import BadInput

EXECUTABLES = {"spiderpool": "", "coordinator": "coordinator.py", "ifacer": "ifacer.py"}
"""Name in the CNI directory -> file in ``cni`` with the constants that differ from ``ipam.py``."""
LAST_LINES = '\n\nif __name__ == "__main__":\n'
BEFORE_CONSTANTS = "from __future__ import annotations\n"
CONFLIST_NAME = "10-orbweaver.conflist"
RECORD_NAME = ".orbweaver-installed.json"
"""Beside the executables: a dot file, which no runtime looks at."""

EXECUTABLE_MODE = 0o755
CONFLIST_MODE = 0o600
PYTHON_MIN = (3, 11)
SHEBANG_BYTES_MAX = 127
"""Linux before 5.1 cuts the first line of a script there; since then at 255."""
INTERPRETER_DEADLINE_S = 30
COMPLAINT_CHARACTERS_MAX = 300

# Runs in the interpreter that will run the executables: its own name for itself, its version,
# and everything that cni/ imports.
PROBE = """
import sys
print(getattr(sys, "_base_executable", None) or sys.executable)
print("%d %d" % sys.version_info[:2])
import _signal, _socket, json, marshal, posix, time
print("complete")
"""
PROBE_ANSWER = re.compile(
    r"(?P<path>[^\n]+)\n(?P<major>\d+) (?P<minor>\d+)\n(?P<complete>complete\n)?"
)

# Docstrings and the import of __future__ are of no use at run time and not free.
COMPILE = """
import __future__, ast, marshal, sys
from _frozen_importlib_external import MAGIC_NUMBER
tree = ast.parse(sys.stdin.buffer.read())
tree.body = [n for n in tree.body if getattr(n, "module", "") != "__future__"]
flag = __future__.annotations.compiler_flag
code = compile(tree, "cni", "exec", flags=flag, dont_inherit=True, optimize=2)
sys.stdout.write(repr((MAGIC_NUMBER, marshal.dumps(code))))
"""

LOADER = """
import marshal
import _frozen_importlib_external as loader
MAGIC, CODE = {compiled}
exec(marshal.loads(CODE) if loader.MAGIC_NUMBER == MAGIC else SOURCE)
"""


class Interpreter(NamedTuple):
    """A Python that can run the executables: its real path and (major, minor)."""

    path: str
    version: tuple[int, int]


class Change(NamedTuple):
    """What was done about one file; ``kept`` is one that somebody else has changed since."""

    path: Path
    action: Literal["created", "replaced", "unchanged", "removed", "absent", "kept"]


class Report(NamedTuple):
    """What was done, in that order. ``interpreter`` is None for an uninstall."""

    interpreter: Interpreter | None
    changes: tuple[Change, ...]


def install(
    target_bin_dir: Path,
    conf_dir: Path,
    interpreter: str | None = None,
    conflist: Mapping[str, object] | None = None,
    conflist_name: str = CONFLIST_NAME,
) -> Report:
    """Install every executable and then, where one is given, the conflist.

    ``interpreter`` is any name of a Python (default: the one that runs this); the real binary
    behind it is used. Raises BadInput, before anything is written, on an interpreter or a conflist
    that cannot work, and OSError where the file system refuses.
    """
    chosen = real_interpreter(interpreter or sys.executable)
    wanted = {
        target_bin_dir / name: (executable(source_of(name), chosen.path), EXECUTABLE_MODE)
        for name in EXECUTABLES
    }
    if conflist is not None:
        path = conf_dir / checked_conflist_name(conflist_name)
        wanted[path] = (conflist_bytes(conflist), CONFLIST_MODE)
    for directory in {path.parent: None for path in (target_bin_dir / RECORD_NAME, *wanted)}:
        directory.mkdir(parents=True, exist_ok=True)
    with exclusive(target_bin_dir):
        record = read_record(target_bin_dir)
        for path, (content, _) in wanted.items():
            record[str(path)] = digests_expected(path, record.get(str(path), []), content)
        write_record(target_bin_dir, record)
        changes = tuple(put(path, content, mode) for path, (content, mode) in wanted.items())
    return Report(chosen, changes)


def uninstall(target_bin_dir: Path) -> Report:
    """Remove what ``install`` recorded in this directory, the conflist first; directories stay."""
    if not target_bin_dir.is_dir():
        return Report(None, ())
    with exclusive(target_bin_dir):
        record = read_record(target_bin_dir)
        changes = tuple(
            removed(Path(path), record[path])
            for path in sorted(record, key=lambda path: Path(path).parent == target_bin_dir)
        )
        (target_bin_dir / RECORD_NAME).unlink(missing_ok=True)
        sync_directory(target_bin_dir)
    return Report(None, changes)


# --------------------------------------------------------------------------------- interpreter


def real_interpreter(name: str) -> Interpreter:
    """Return the binary behind ``name``, tried as the executables will run it.

    A virtual environment's python reads a configuration and a pyenv shim starts a shell first,
    at every single call: what they lead to is asked of the interpreter itself.
    """
    named, _ = probe(name, os.environ)
    path = os.path.realpath(named)
    # A container runtime passes nothing of this environment on, such as a library path.
    _, version = probe(path, {})
    return Interpreter(path, version)


def probe(path: str, environment: Mapping[str, str]) -> tuple[str, tuple[int, int]]:
    """Return what the interpreter at ``path`` calls itself, and its version; BadInput if unfit."""
    command = [path, "-I", "-S", "-c", PROBE]
    oldest = ".".join(map(str, PYTHON_MIN))
    remedy = f"name the path of a Python >= {oldest} that is installed on this node"
    try:
        answer = subprocess.run(
            command,
            capture_output=True,
            check=False,
            encoding="utf-8",
            env=environment,
            errors="replace",
            timeout=INTERPRETER_DEADLINE_S,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        text = f"interpreter {path} cannot be run: {error}"
        raise BadInput(text, subject=path, remedy=remedy) from error
    said = PROBE_ANSWER.fullmatch(answer.stdout)
    if said and (int(said["major"]), int(said["minor"])) < PYTHON_MIN:
        text = f"interpreter {path} is Python {said['major']}.{said['minor']}, too old"
        raise BadInput(text, subject=path, remedy=remedy)
    if not said or not said["complete"]:
        complaint = " ".join(answer.stderr.split())[-COMPLAINT_CHARACTERS_MAX:] or "nothing said"
        text = f"interpreter {path} cannot run the executables"
        text = f"{text}: exit status {answer.returncode}, {complaint}"
        raise BadInput(text, subject=path, remedy=remedy)
    return said["path"], (int(said["major"]), int(said["minor"]))


# ------------------------------------------------------------------------------------ artefact


def source_of(name: str) -> str:
    """Return the source of one executable: ``cni/ipam.py``, with its own constants at the end.

    Functions look constants up when they run, which is after all of them were said.
    """
    folder = importlib.resources.files("cni")
    source = (folder / "ipam.py").read_text(encoding="utf-8")
    if not EXECUTABLES[name]:
        return source
    _, _, constants = (
        (folder / EXECUTABLES[name]).read_text(encoding="utf-8").partition(BEFORE_CONSTANTS)
    )
    common, start, last = source.rpartition(LAST_LINES)
    return f"{common}{constants}{start}{last}"


def executable(source: str, interpreter: str) -> bytes:
    """Return the file that runs ``source`` with ``interpreter`` (a real path, already tried)."""
    assert "'''" not in source, "the source stands between these quotes"
    assert source.endswith("\n"), "a closing quote must not follow the last character"
    compiled = subprocess.run(
        [interpreter, "-I", "-S", "-c", COMPILE],
        input=source.encode(),
        capture_output=True,
        check=True,
        env={},
        timeout=INTERPRETER_DEADLINE_S,
    ).stdout.decode("ascii")
    loader = LOADER.format(compiled=compiled)
    return f"{first_lines(interpreter)}SOURCE = r'''{source}'''\n{loader.lstrip()}".encode()


def first_lines(interpreter: str) -> str:
    """Return what makes the kernel start ``interpreter`` on this file.

    ``-IS`` in one word, because the kernel passes everything after the path as one argument. A path
    that is too long for such a line, or has a blank in it, goes through the shell, a millisecond
    slower: what the shell executes is a string to Python.
    """
    if any(character in interpreter for character in "'\\\n"):
        text = f"interpreter path {interpreter!r} has a quote, a backslash or a line break in it"
        raise BadInput(text, subject=interpreter, remedy="install Python under a plain path")
    line = f"#!{interpreter} -IS"
    if len(os.fsencode(line)) <= SHEBANG_BYTES_MAX and not any(map(str.isspace, interpreter)):
        return f"{line}\n"
    return f"#!/bin/sh\n'''exec' '{interpreter}' -IS \"$0\" \"$@\"\n' '''\n"


def checked_conflist_name(name: str) -> str:
    """Return ``name`` if a runtime would read a file of this name in its directory."""
    if Path(name).name != name or name.startswith(".") or not name.endswith(".conflist"):
        text = f"{name!r} is not the name of a network configuration list"
        raise BadInput(text, subject="conflist_name", remedy="give a file name in .conflist")
    return name


def conflist_bytes(conflist: Mapping[str, object]) -> bytes:
    """Return the conflist as JSON; BadInput names the first field no runtime would accept."""
    plugins = conflist.get("plugins")
    typed = isinstance(plugins, list) and all(
        isinstance(plugin, Mapping) and plugin.get("type") for plugin in plugins
    )
    for field, fit, remedy in (
        ("cniVersion", isinstance(conflist.get("cniVersion"), str), "give it, such as 1.1.0"),
        ("name", bool(conflist.get("name")), "give the network a name"),
        ("plugins", bool(plugins) and typed, "list at least one plugin, each with its type"),
    ):
        if not fit:
            raise BadInput(f"conflist without a usable {field}", subject=field, remedy=remedy)
    return json.dumps(conflist, indent=2).encode() + b"\n"


# --------------------------------------------------------------------------------------- files


def digest(content: bytes) -> str:
    """Return the fingerprint under which a file is recorded."""
    return hashlib.sha256(content).hexdigest()


@contextmanager
def exclusive(directory: Path) -> Iterator[None]:
    """Keep a second installer out of this directory; the kernel ends the lock with the process."""
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def put(path: Path, content: bytes, mode: int) -> Change:
    """Make ``path`` a file of this content and mode, unless it is one already."""
    existed = os.path.lexists(path)
    if existed and not path.is_symlink() and path.is_file():
        right_mode = stat.S_IMODE(path.stat().st_mode) == mode
        if right_mode and path.read_bytes() == content:
            return Change(path, "unchanged")
    # One name, under the lock: what a killed installer left behind is replaced, not added to.
    temporary = path.with_name(f".{path.name}.orbweaver-tmp")
    temporary.unlink(missing_ok=True)
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        temporary.rename(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)
    return Change(path, "replaced" if existed else "created")


def removed(path: Path, digests: list[str]) -> Change:
    """Remove ``path`` if it is one of the files recorded."""
    try:
        ours = not path.is_symlink() and digest(path.read_bytes()) in digests
    except FileNotFoundError:
        return Change(path, "absent")
    except OSError:
        ours = False
    if not ours:
        return Change(path, "kept")
    path.unlink()
    sync_directory(path.parent)
    return Change(path, "removed")


def digests_expected(path: Path, recorded: list[str], content: bytes) -> list[str]:
    """Return the digests ``path`` may have while it is being replaced: before, if ours, and after.

    The record is written first, so that what a killed installer leaves can still be uninstalled.
    """
    after = digest(content)
    try:
        before = digest(path.read_bytes())
    except OSError:
        return [after]
    return [before, after] if before in recorded and before != after else [after]


def sync_directory(directory: Path) -> None:
    """Make names that were just made or removed survive a power cut."""
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def read_record(directory: Path) -> dict[str, list[str]]:
    """Return path -> digests of what was installed from this directory; BadInput if unreadable."""
    path = directory / RECORD_NAME
    try:
        record = json.loads(path.read_bytes())
        return {str(name): [str(d) for d in digests] for name, digests in record["files"].items()}
    except FileNotFoundError:
        return {}
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        text = f"{path} is not a record of installed files"
        remedy = "remove it, and by hand what an earlier installation left"
        raise BadInput(text, subject=str(path), remedy=remedy) from error


def write_record(directory: Path, record: Mapping[str, list[str]]) -> None:
    """Record what may be there from now on, before it is there."""
    content = json.dumps({"files": record}, indent=2, sort_keys=True).encode() + b"\n"
    put(directory / RECORD_NAME, content, CONFLIST_MODE)

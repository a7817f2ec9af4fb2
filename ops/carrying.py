"""A Python that nodes need not have: made with the agent's image, brought along by its installer.

``build`` makes a tree of an interpreter, the modules that the CNI executables import, every library
they are linked to, and the loader: it runs on any Linux of its architecture, whatever C library is
there. ``carry`` puts such a tree under a name made of its content, whole or not at all, so that an
executable always finds the interpreter it was compiled for.

The kernel finds the loader by an absolute path inside the interpreter's file. Where the tree will
lie is only known on the node, so ``build`` leaves room for that path and ``carry`` writes it.
It never touches a Python that was there before.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from core.errors import BadInput
from ops.installer import INTERPRETER_DEADLINE_S, PROBE, real_interpreter

HOME_NAME: Final = ".orbweaver"
"""Beside the executables: where they may be run, programs may be run."""

KEPT_MAX: Final = 2
"""Trees that stay: the one in use, and the one that a call may be using still."""

LOADER_BYTES_MAX: Final = 255
"""Room for the loader's path, with the NUL behind it."""

INTERPRETER: Final = Path("bin/python3")
LOADER: Final = Path("lib/ld.so")

# In the interpreter that is carried: files of all modules that a call or the installer imports.
MODULES: Final = f"""{PROBE}
import __future__, ast, encodings.latin_1, os
paths = [getattr(module, "__file__", None) for module in list(sys.modules.values())]
print("\\n".join(sorted(path for path in paths if path)))
"""

# Compiled without a date: the copies are newer than their sources.
COMPILE: Final = """
import compileall, py_compile, sys
mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
sys.exit(not compileall.compile_dir(sys.argv[1], quiet=1, invalidation_mode=mode))
"""

_LIBRARY: Final = re.compile(r"^\s*(?:(?P<name>\S+) => )?(?P<path>/\S+) \(0x", re.MULTILINE)
_ELF_64_LITTLE: Final = b"\x7fELF\x02\x01"
_PT_INTERP: Final = 3


def build(target: Path, interpreter: str) -> None:
    """Make the tree. Needs ``ldd`` and ``patchelf``. Raises BadInput, CalledProcessError."""
    found = real_interpreter(interpreter)
    version = ".".join(map(str, found.version))
    modules = [Path(line) for line in _run(found.path, "-I", "-S", "-c", MODULES).split("\n")[3:-1]]
    source = next(path.parent for path in modules if path.name == "os.py")
    library = target / "lib" / f"python{version}"
    (library / "lib-dynload").mkdir(parents=True)
    for path in modules:
        _copy(path, library / path.relative_to(source))
    binary = target / INTERPRETER
    _copy(Path(found.path), binary)
    extensions = [path for path in modules if path.suffix == ".so"]
    for name, path in sorted(_libraries([Path(found.path), *extensions])):
        _copy(path, target / (LOADER if name.startswith("ld-") else Path("lib", name)))
    # What a library says of places would come before what the interpreter says.
    for path in {*target.rglob("*.so*")} - {target / LOADER, *target.rglob("libc.so*")}:
        _run("patchelf", "--remove-rpath", str(path))
    loader = ["--set-interpreter", "/" * (LOADER_BYTES_MAX - 1)]
    _run("patchelf", *loader, "--force-rpath", "--set-rpath", "$ORIGIN/../lib", str(binary))
    _run(found.path, "-c", COMPILE, str(library))
    _try(target)


def _try(tree: Path) -> None:
    """Run it from another place. Raises BadInput.

    patchelf spoils what is linked to fixed addresses, as Debian's own python3 is. One that was
    built as usual is not, nor are those of Python's images.
    """
    with tempfile.TemporaryDirectory() as directory:
        real_interpreter(str(carry(tree, Path(directory))))


def carry(tree: Path, home: Path) -> Path:
    """Put the tree into ``home`` and return its interpreter. Raises BadInput, OSError."""
    place = home / _digest(tree)
    if not place.is_dir():
        partial = home / f".{place.name}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        shutil.copytree(tree, partial)
        _set_loader(partial / INTERPRETER, place / LOADER)
        os.sync()
        partial.rename(place)
    os.utime(place)
    return place / INTERPRETER


def prune(home: Path) -> None:
    """Give up trees that no executable names any more; the newest ``KEPT_MAX`` stay."""
    trees = [path for path in home.iterdir() if path.is_dir()]
    for path in sorted(trees, key=lambda path: path.stat().st_mtime_ns)[:-KEPT_MAX]:
        shutil.rmtree(path)


def forget(home: Path) -> None:
    """Take everything away that ``carry`` has put there."""
    if home.is_dir():
        shutil.rmtree(home)


def _digest(tree: Path) -> str:
    """Of every name and every byte."""
    found = hashlib.sha256()
    for path in sorted(path for path in tree.rglob("*") if path.is_file()):
        content = path.read_bytes()
        found.update(f"{path.relative_to(tree)}\0{len(content)}\0".encode() + content)
    return found.hexdigest()[:16]


def _set_loader(binary: Path, loader: Path) -> None:
    """Write the loader's path into the room that was left for it."""
    path = os.fsencode(loader)
    if len(path) >= LOADER_BYTES_MAX:
        message = f"{loader} is longer than {LOADER_BYTES_MAX - 1} bytes"
        raise BadInput(message, subject=str(loader), remedy="choose a shorter directory")
    content = bytearray(binary.read_bytes())
    start, size = _interpreter_segment(bytes(content))
    if size < LOADER_BYTES_MAX:
        raise BadInput(f"{binary} leaves no room for its loader's path", subject=str(binary))
    content[start : start + size] = path.ljust(size, b"\0")
    binary.write_bytes(content)


def _interpreter_segment(content: bytes) -> tuple[int, int]:
    """Where an ELF file names its loader: offset and size."""
    if not content.startswith(_ELF_64_LITTLE):
        raise BadInput("an interpreter that is no 64-bit little-endian ELF file", subject="python")
    (table,) = struct.unpack_from("<Q", content, 32)
    size, number = struct.unpack_from("<HH", content, 54)
    for index in range(number):
        kind, _, offset, _, _, length = struct.unpack_from("<IIQQQQ", content, table + index * size)
        if kind == _PT_INTERP:
            return offset, length
    raise BadInput("an interpreter that names no loader", subject="python")


def _libraries(files: list[Path]) -> Iterator[tuple[str, Path]]:
    """Name and file of everything that these are linked to, the loader included."""
    found: dict[str, Path] = {}
    for file in files:
        for match in _LIBRARY.finditer(_run("ldd", str(file))):
            path = Path(match["path"])
            found.setdefault(Path(match["name"] or path.name).name, path)
    yield from found.items()


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    shutil.copymode(source, target)


def _run(*command: str) -> str:
    return subprocess.run(
        command, check=True, stdout=subprocess.PIPE, text=True, timeout=INTERPRETER_DEADLINE_S
    ).stdout


def main() -> None:
    """``python -m ops.carrying TARGET``: make the tree of this very interpreter."""
    import sys

    build(Path(sys.argv[1]), sys.executable)


if __name__ == "__main__":
    main()

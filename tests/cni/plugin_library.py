"""Calls the C program as a library, which is fast enough for thousands of examples."""

from __future__ import annotations

import ctypes
import functools
import subprocess
import tempfile
from pathlib import Path

from cni.build import WARNINGS, compiler

SOURCE = Path(__file__).with_name("harness.c")
PATH_BYTES = 128
MESSAGE_BYTES = 4_096


class Refused(Exception):
    """The program would print an error with this code and message."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def build_harness(output: Path, *flags: str) -> None:
    command = [*compiler(), *WARNINGS, "-Wno-unused-function", *flags, "-o", str(output)]
    subprocess.run([*command, str(SOURCE)], check=True, capture_output=True, text=True)


@functools.cache
def _library() -> ctypes.CDLL:
    with tempfile.TemporaryDirectory() as directory:
        library = Path(directory) / "plugin.so"
        build_harness(library, "-O1", "-shared", "-fPIC")
        return ctypes.CDLL(str(library))


def framed_socket_path(netconf: bytes) -> bytes:
    """Return the path to which the program connects for a netconf. Raises Refused."""
    path = ctypes.create_string_buffer(PATH_BYTES)
    message = ctypes.create_string_buffer(MESSAGE_BYTES)
    size = ctypes.c_size_t
    code = _library().socket_path(netconf, size(len(netconf)), path, message, size(MESSAGE_BYTES))
    if code:
        raise Refused(code, message.value.decode(errors="replace"))
    return path.value

"""Writes a pause image without a compiler or registry: two small static ELF programs in a tar.

``/pause`` waits forever. ``/done`` exits with success. The stop signal of the image is SIGKILL,
because SIGTERM does not end a PID 1 without a handler.
"""

from __future__ import annotations

import hashlib
import io
import json
import platform
import struct
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Final, NamedTuple

IMAGE_NAME = "orbweaver.test/pause:1"
NO_LINKS: Final[Mapping[str, str]] = MappingProxyType({})


class Machine(NamedTuple):
    """The values of one architecture.

    ``elf``: ELF machine number; ``image``: its name in an image's configuration; ``pause`` and
    ``done``: instructions of the programs.
    """

    elf: int
    image: str
    pause: bytes
    done: bytes


MACHINES = {
    "x86_64": Machine(
        62,
        "amd64",
        # mov eax, 34 (pause); syscall; jmp to the beginning
        bytes.fromhex("b822000000 0f05 ebf7"),
        # xor edi, edi; mov eax, 60 (exit); syscall
        bytes.fromhex("31ff b83c000000 0f05"),
    ),
    "aarch64": Machine(
        183,
        "arm64",
        # x0 to x3 = 0; x8 = 73 (ppoll: arm64 has no pause); svc 0; branch to the beginning
        struct.pack(
            "<7I",
            0xD2800000,
            0xD2800001,
            0xD2800002,
            0xD2800003,
            0xD2800928,
            0xD4000001,
            0x17FFFFFA,
        ),
        # x0 = 0; x8 = 93 (exit); svc 0
        struct.pack("<3I", 0xD2800000, 0xD2800BA8, 0xD4000001),
    ),
}

_LOADED_AT = 0x400000
_FILE_HEADER = struct.Struct("<4s5B7x2HI3QI6H")
_PROGRAM_HEADER = struct.Struct("<2I6Q")
_EXECUTABLE, _LOAD, _READ_AND_EXECUTE, _PAGE = 2, 1, 5, 0x1000


def program(machine_number: int, code: bytes) -> bytes:
    """A static executable with one segment (elf(5))."""
    headers = _FILE_HEADER.size + _PROGRAM_HEADER.size
    size = headers + len(code)
    file_header = _FILE_HEADER.pack(
        b"\x7fELF",
        2,  # 64 bits
        1,  # little-endian
        1,  # ELF version
        0,  # System V ABI
        0,
        _EXECUTABLE,
        machine_number,
        1,  # ELF version
        _LOADED_AT + headers,  # first instruction
        _FILE_HEADER.size,  # offset of the program header
        0,  # no section headers
        0,  # no flags
        _FILE_HEADER.size,
        _PROGRAM_HEADER.size,
        1,  # one program header
        0,  # section headers: size, number, index of the names
        0,
        0,
    )
    program_header = _PROGRAM_HEADER.pack(
        _LOAD, _READ_AND_EXECUTE, 0, _LOADED_AT, _LOADED_AT, size, size, _PAGE
    )
    return file_header + program_header + code


def write_archive(path: Path, environment: Sequence[str]) -> None:
    """Write the pause image as a docker-archive. ``environment``: variables of containers."""
    machine = MACHINES[platform.machine()]
    programs = {"pause": machine.pause, "done": machine.done}
    layer = tar({name: (program(machine.elf, code), 0o755) for name, code in programs.items()})
    write_image(path, IMAGE_NAME, layer, {"Entrypoint": ["/pause"], "Env": list(environment)})


def write_image(path: Path, name: str, layer: bytes, config: Mapping[str, object]) -> None:
    image = {
        "architecture": MACHINES[platform.machine()].image,
        "os": "linux",
        "config": {"StopSignal": "SIGKILL", **config},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
    }
    manifest = [{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]
    files = {
        "config.json": json.dumps(image).encode(),
        "layer.tar": layer,
        "manifest.json": json.dumps(manifest).encode(),
    }
    path.write_bytes(tar({file: (content, 0o644) for file, content in files.items()}))


def tar(files: Mapping[str, tuple[bytes, int]], links: Mapping[str, str] = NO_LINKS) -> bytes:
    """A tar archive. ``files``: name -> content and mode; ``links``: name -> target."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, (content, mode) in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), mode
            archive.addfile(entry, io.BytesIO(content))
        for name, target in links.items():
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = tarfile.SYMTYPE, target
            archive.addfile(entry)
    return buffer.getvalue()

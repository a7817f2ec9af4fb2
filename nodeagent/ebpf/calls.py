"""The system call bpf(2): maps, programs, links and pins, by file descriptors.

Python has no name for it, and libc no function: it is called by its number. Promise: whatever the
kernel refuses is a ``BpfRefused`` with its words, a program with the verifier's last ones; a
descriptor that is returned belongs to the caller. It knows no map's meaning.
"""

from __future__ import annotations

import ctypes
import os
import platform
from collections.abc import Iterator
from errno import E2BIG, ENOENT, ENOSPC, EPERM
from pathlib import Path
from struct import Struct
from typing import Final, NamedTuple

from core.errors import BpfRefused
from nodeagent.ebpf import numbers as n

LOG_BYTES: Final = 1 << 20
LOG_CHARACTERS_MAX: Final = 2_000
"""Of the verifier's log in an error: its end tells what was wrong."""

LICENSE: Final = b"Apache-2.0\0"
"""No helper that is used here asks for another."""

_MAP_CREATE: Final = Struct("=IIIIIII16s")
_ELEMENT: Final = Struct("=IxxxxQQQ")
_PROGRAM: Final = Struct("=IIQQIIQII16sII")
_OBJECT: Final = Struct("=QII")
_INFO: Final = Struct("=IIQ")
_LINK: Final = Struct("=IIII")
_LINK_INFO: Final = Struct("=IIIxxxxQI")
_LINK_INFO_BYTES: Final = 128
_libc: Final = ctypes.CDLL(None, use_errno=True)


class MapSpec(NamedTuple):
    """What a map is made as."""

    name: str
    kind: int
    key_bytes: int
    value_bytes: int
    entries_max: int
    flags: int = 0


class LinkInfo(NamedTuple):
    """Where a program is attached: the cgroup by its id, and the hook."""

    cgroup: int
    hook: int


class Map:
    """A map of the kernel; it lives as long as a descriptor, a program or a pin has it."""

    def __init__(self, spec: MapSpec, fd: int) -> None:
        self.spec = spec
        self.fd = fd

    def put(self, key: bytes, value: bytes) -> None:
        """Set one entry. Raises BpfRefused."""
        assert len(key) == self.spec.key_bytes
        assert len(value) == self.spec.value_bytes
        held = ctypes.create_string_buffer(value, len(value))
        try:
            self._element(n.BPF_MAP_UPDATE_ELEM, key, held)
        except BpfRefused as error:
            if error.number != E2BIG:
                raise
            name, most = self.spec.name, self.spec.entries_max
            text = f"map {name} has no room beyond its {most} entries"
            raise BpfRefused(text, number=E2BIG, subject=name) from None

    def get(self, key: bytes) -> bytes | None:
        """One entry's value; None: there is none. Raises BpfRefused."""
        value = ctypes.create_string_buffer(self.spec.value_bytes)
        try:
            self._element(n.BPF_MAP_LOOKUP_ELEM, key, value)
        except BpfRefused as error:
            if error.number == ENOENT:
                return None
            raise
        return value.raw

    def remove(self, key: bytes) -> None:
        """Remove one entry; that there is none is fine. Raises BpfRefused."""
        try:
            self._element(n.BPF_MAP_DELETE_ELEM, key, None)
        except BpfRefused as error:
            if error.number != ENOENT:
                raise

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        """Every entry, of a map that nobody else writes meanwhile. Raises BpfRefused."""
        key: bytes | None = None
        while (key := self._next(key)) is not None:
            value = self.get(key)
            if value is not None:
                yield key, value

    def close(self) -> None:
        """Let go; twice is fine."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)

    def _next(self, key: bytes | None) -> bytes | None:
        following = ctypes.create_string_buffer(self.spec.key_bytes)
        try:
            self._element(n.BPF_MAP_GET_NEXT_KEY, key, following)
        except BpfRefused as error:
            if error.number == ENOENT:
                return None
            raise
        return following.raw

    def _element(
        self, command: int, key: bytes | None, value: ctypes.Array[ctypes.c_char] | None
    ) -> None:
        held = None if key is None else ctypes.create_string_buffer(key, len(key))
        request = _ELEMENT.pack(self.fd, _address(held), _address(value), n.BPF_ANY)
        _bpf(command, request, f"use map {self.spec.name}")


def create_map(spec: MapSpec) -> Map:
    """A new map, of this descriptor alone. Raises BpfRefused."""
    sizes = (spec.kind, spec.key_bytes, spec.value_bytes, spec.entries_max, spec.flags)
    request = _MAP_CREATE.pack(*sizes, 0, 0, _name(spec.name))
    return Map(spec, _bpf(n.BPF_MAP_CREATE, request, f"make map {spec.name}"))


def load_program(name: str, kind: int, hook: int, code: bytes) -> int:
    """Load a program; its descriptor. Raises BpfRefused with what the verifier says."""
    what = f"load program {name}"
    try:
        return _load(what, name, kind, hook, code, None)
    except BpfRefused as error:
        if error.number == EPERM:
            raise
        log = ctypes.create_string_buffer(LOG_BYTES)
        try:
            return _load(what, name, kind, hook, code, log)
        except BpfRefused as again:
            if again.number not in (ENOSPC, error.number):
                raise
            words = log.value.decode(errors="replace").strip()[-LOG_CHARACTERS_MAX:]
            message = f"{again.message}: {words}" if words else again.message
            raise BpfRefused(message, number=error.number, subject=name) from None


def attach(program: int, cgroup: int, hook: int) -> int:
    """A link of a program to a cgroup's hook: it is undone when nobody has the link any more.

    Raises BpfRefused.
    """
    return _bpf(n.BPF_LINK_CREATE, _LINK.pack(program, cgroup, hook, 0), "attach a program")


def exchange(link: int, program: int) -> None:
    """Put another program into a link, without a moment between. Raises BpfRefused."""
    _bpf(n.BPF_LINK_UPDATE, _LINK.pack(link, program, 0, 0), "exchange a program")


def detach(link: int) -> None:
    """End a link now; when nobody has it any more the kernel would do so in its own time.

    Raises BpfRefused.
    """
    _bpf(n.BPF_LINK_DETACH, _LINK.pack(link, 0, 0, 0), "detach a program")


def link_info(link: int) -> LinkInfo:
    """Where a link is; the cgroup is 0 when it is gone. Raises BpfRefused."""
    found = ctypes.create_string_buffer(_LINK_INFO_BYTES)
    request = _INFO.pack(link, _LINK_INFO_BYTES, _address(found))
    _bpf(n.BPF_OBJ_GET_INFO_BY_FD, request, "read a link")
    *_, cgroup, hook = _LINK_INFO.unpack_from(found.raw)
    return LinkInfo(cgroup, hook)


def pin(fd: int, path: Path) -> None:
    """Keep a map or link at a path of a bpffs, whoever ends. Raises BpfRefused."""
    text = _path(path)
    _bpf(n.BPF_OBJ_PIN, _OBJECT.pack(_address(text), fd, 0), f"pin {path}")


def open_pinned(path: Path) -> int | None:
    """The descriptor of what is pinned; None: nothing is. Raises BpfRefused."""
    text = _path(path)
    try:
        return _bpf(n.BPF_OBJ_GET, _OBJECT.pack(_address(text), 0, 0), f"open {path}")
    except BpfRefused as error:
        if error.number == ENOENT:
            return None
        raise


def _load(
    what: str,
    name: str,
    kind: int,
    hook: int,
    code: bytes,
    log: ctypes.Array[ctypes.c_char] | None,
) -> int:
    instructions = ctypes.create_string_buffer(code, len(code))
    license_ = ctypes.create_string_buffer(LICENSE, len(LICENSE))
    request = _PROGRAM.pack(
        *(kind, len(code) // 8, _address(instructions), _address(license_)),
        *(int(log is not None), 0 if log is None else LOG_BYTES, _address(log)),
        *(0, 0, _name(name), 0, hook),
    )
    return _bpf(n.BPF_PROG_LOAD, request, what)


def _bpf(command: int, request: bytes, what: str) -> int:
    number = n.SYSCALLS.get(platform.machine())
    if number is None:
        text = f"cannot {what}: the number of bpf(2) on {platform.machine()} is not known"
        raise BpfRefused(text, number=0)
    held = ctypes.create_string_buffer(request, len(request))
    answer: int = _libc.syscall(number, command, ctypes.byref(held), len(request))
    if answer < 0:
        error = ctypes.get_errno()
        raise BpfRefused(f"cannot {what}: {os.strerror(error)}", number=error, subject=what)
    return answer


def _address(buffer: ctypes.Array[ctypes.c_char] | None) -> int:
    return 0 if buffer is None else ctypes.addressof(buffer)


def _name(name: str) -> bytes:
    return name.encode()[: n.BPF_OBJ_NAME_LEN - 1]


def _path(path: Path) -> ctypes.Array[ctypes.c_char]:
    return ctypes.create_string_buffer(os.fsencode(path))

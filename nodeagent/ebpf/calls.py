"""The system call bpf(2): maps, programs, links and pins, by file descriptors.

Neither Python nor libc has a function for bpf(2). All functions raise BpfRefused. Callers close
returned descriptors.
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

from core.domain.validation.common_rules import counted
from core.errors import BpfRefused
from nodeagent.ebpf import numbers as n

LOG_BYTES: Final = 1 << 20
LOG_CHARACTERS_MAX: Final = 2_000
"""The end of the verifier's log describes the fault."""

LICENSE: Final = b"Apache-2.0\0"
"""The programs call no helper function that requires the GPL."""

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
    """The parameters of a new map."""

    name: str
    kind: int
    key_bytes: int
    value_bytes: int
    entries_max: int
    flags: int = 0


class LinkInfo(NamedTuple):
    """Where a program is attached: the cgroup's ID and the hook."""

    cgroup: int
    hook: int


class Map:
    """An eBPF map. The kernel keeps a map while a descriptor, a program or a pin refers to it."""

    def __init__(self, spec: MapSpec, fd: int) -> None:
        self.spec = spec
        self.fd = fd

    def put(self, key: bytes, value: bytes) -> None:
        """Set one entry."""
        assert len(key) == self.spec.key_bytes
        assert len(value) == self.spec.value_bytes
        value_buffer = ctypes.create_string_buffer(value, len(value))
        try:
            self._use_map(n.BPF_MAP_UPDATE_ELEM, key, value_buffer)
        except BpfRefused as error:
            if error.errno != E2BIG:
                raise
            name = self.spec.name
            held = counted(self.spec.entries_max, "entry", "entries")
            text = f"map {name} is full: it holds {held}"
            remedy = "delete Services that are not needed"
            raise BpfRefused(text, errno=E2BIG, subject=name, remedy=remedy) from None

    def get(self, key: bytes) -> bytes | None:
        """The value at a key; None if the entry does not exist."""
        value = ctypes.create_string_buffer(self.spec.value_bytes)
        try:
            self._use_map(n.BPF_MAP_LOOKUP_ELEM, key, value)
        except BpfRefused as error:
            if error.errno == ENOENT:
                return None
            raise
        return value.raw

    def remove(self, key: bytes) -> None:
        """Remove the entry at a key, if the entry exists."""
        try:
            self._use_map(n.BPF_MAP_DELETE_ELEM, key, None)
        except BpfRefused as error:
            if error.errno != ENOENT:
                raise

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        """Every entry, if no process writes to the map during the iteration."""
        key: bytes | None = None
        while (key := self._next(key)) is not None:
            value = self.get(key)
            if value is not None:
                yield key, value

    def close(self) -> None:
        """Close the descriptor; a second call does nothing."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)

    def _next(self, key: bytes | None) -> bytes | None:
        next_key = ctypes.create_string_buffer(self.spec.key_bytes)
        try:
            self._use_map(n.BPF_MAP_GET_NEXT_KEY, key, next_key)
        except BpfRefused as error:
            if error.errno == ENOENT:
                return None
            raise
        return next_key.raw

    def _use_map(
        self, command: int, key: bytes | None, value: ctypes.Array[ctypes.c_char] | None
    ) -> None:
        key_buffer = None if key is None else ctypes.create_string_buffer(key, len(key))
        request = _ELEMENT.pack(self.fd, _address(key_buffer), _address(value), n.BPF_ANY)
        _bpf(command, request, f"use map {self.spec.name}")


def create_map(spec: MapSpec) -> Map:
    """Create a map."""
    sizes = (spec.kind, spec.key_bytes, spec.value_bytes, spec.entries_max, spec.flags)
    inner_map_fd = numa_node = 0
    request = _MAP_CREATE.pack(*sizes, inner_map_fd, numa_node, _name(spec.name))
    return Map(spec, _bpf(n.BPF_MAP_CREATE, request, f"create map {spec.name}"))


def load_program(name: str, kind: int, hook: int, code: bytes) -> int:
    """Load a program; return its descriptor. The error has the end of the verifier's log."""
    operation = f"load program {name}"
    try:
        return _load(operation, name, kind, hook, code, None)
    except BpfRefused as error:
        if error.errno == EPERM:
            raise
        # Load again, with a buffer for the verifier's log. ENOSPC: the buffer is too short.
        log = ctypes.create_string_buffer(LOG_BYTES)
        try:
            return _load(operation, name, kind, hook, code, log)
        except BpfRefused as second_error:
            if second_error.errno not in (ENOSPC, error.errno):
                raise
            log_end = log.value.decode(errors="replace").strip()[-LOG_CHARACTERS_MAX:]
            message = f"{second_error.message}: {log_end}" if log_end else second_error.message
            remedy = "use Linux 5.14 or newer; on such a kernel, report the verifier's text"
            raise BpfRefused(message, errno=error.errno, subject=name, remedy=remedy) from None


def attach(program: int, cgroup: int, hook: int) -> int:
    """Attach a program to a cgroup's hook; return the link's descriptor.

    The link ends when its descriptor is closed, unless the link is pinned.
    """
    return _bpf(
        n.BPF_LINK_CREATE,
        _LINK.pack(program, cgroup, hook, 0),
        f"attach a program to cgroup hook {hook}",
    )


def replace_program(link: int, program: int) -> None:
    """Replace the program of a link without a gap."""
    _bpf(n.BPF_LINK_UPDATE, _LINK.pack(link, program, 0, 0), "replace an attached program")


def detach(link: int) -> None:
    """End a link now, even if the link is pinned or has other descriptors."""
    _bpf(n.BPF_LINK_DETACH, _LINK.pack(link, 0, 0, 0), "detach a program")


def link_info(link: int) -> LinkInfo:
    """Where a link's program is attached. ``cgroup`` is 0 if the cgroup was deleted."""
    info = ctypes.create_string_buffer(_LINK_INFO_BYTES)
    request = _INFO.pack(link, _LINK_INFO_BYTES, _address(info))
    _bpf(n.BPF_OBJ_GET_INFO_BY_FD, request, "read a link")
    *_, cgroup, hook = _LINK_INFO.unpack_from(info.raw)
    return LinkInfo(cgroup, hook)


def pin(fd: int, path: Path) -> None:
    """Pin a map or link in a bpffs. A pinned object outlasts the agent."""
    path_buffer = _path(path)
    _bpf(n.BPF_OBJ_PIN, _OBJECT.pack(_address(path_buffer), fd, 0), f"pin {path}")


def open_pinned(path: Path) -> int | None:
    """A descriptor of the object pinned at a path; None if no file is there."""
    path_buffer = _path(path)
    try:
        return _bpf(n.BPF_OBJ_GET, _OBJECT.pack(_address(path_buffer), 0, 0), f"open {path}")
    except BpfRefused as error:
        if error.errno == ENOENT:
            return None
        raise


def _load(
    operation: str,
    name: str,
    kind: int,
    hook: int,
    code: bytes,
    log: ctypes.Array[ctypes.c_char] | None,
) -> int:
    instructions = ctypes.create_string_buffer(code, len(code))
    license_ = ctypes.create_string_buffer(LICENSE, len(LICENSE))
    kernel_version = flags = ifindex = 0
    request = _PROGRAM.pack(
        kind,
        len(code) // 8,
        _address(instructions),
        _address(license_),
        int(log is not None),
        0 if log is None else LOG_BYTES,
        _address(log),
        kernel_version,
        flags,
        _name(name),
        ifindex,
        hook,
    )
    return _bpf(n.BPF_PROG_LOAD, request, operation)


def _bpf(command: int, request: bytes, operation: str) -> int:
    number = n.SYSCALLS.get(platform.machine())
    if number is None:
        text = f"cannot {operation}: the number of bpf(2) on {platform.machine()} is not known"
        remedy = "disable orbweaver.clusterIP on nodes of this architecture"
        raise BpfRefused(text, errno=0, remedy=remedy)
    attributes = ctypes.create_string_buffer(request, len(request))
    result: int = _libc.syscall(number, command, ctypes.byref(attributes), len(request))
    if result < 0:
        error = ctypes.get_errno()
        remedy = "give the agent the capabilities SYS_ADMIN and NET_ADMIN"
        raise BpfRefused(
            f"cannot {operation}: {os.strerror(error)}",
            errno=error,
            subject=operation,
            remedy=remedy if error == EPERM else "",
        )
    return result


def _address(buffer: ctypes.Array[ctypes.c_char] | None) -> int:
    return 0 if buffer is None else ctypes.addressof(buffer)


def _name(name: str) -> bytes:
    return name.encode()[: n.BPF_OBJ_NAME_LEN - 1]


def _path(path: Path) -> ctypes.Array[ctypes.c_char]:
    return ctypes.create_string_buffer(os.fsencode(path))

"""The eight BPF programs, as instructions. Pure.

The programs of ``connect`` and ``sendmsg`` replace a frontend (a Service's address and port) by a
backend, or refuse the call if the frontend has no backend. The programs of ``recvmsg`` and
``getpeername`` replace the backend by the frontend. The backends of one frontend form a group.

The stack: offset from the frame pointer, then the fields with their sizes in bytes:

    -24  frontend   address 16, port 2, protocol 1, padding            (key of ``services``)
    -64  socket     cookie 8, backend's address 16, port 2, padding    (key of ``reversed``)
   -104  client     namespace's cookie 8, frontend 20, padding         (key of ``affinity``)
   -136  chosen     backend's address 16, port 2, padding, time 8      (value of ``affinity``)
   -144  slot       group 4, index 4                                   (key of ``backends``)
   -168  member     group 4, backend's address 16, port 2, padding     (key of ``members``)
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from errno import ECONNREFUSED
from typing import Final, Literal, NamedTuple

from core.domain.addresses.ip_address import Family
from nodeagent.clusterip import map_layout
from nodeagent.clusterip.frontends import IPV4_MAPPED_PREFIX
from nodeagent.ebpf import numbers as n
from nodeagent.ebpf.instructions import (
    Label,
    Line,
    Register,
    Size,
    call,
    compute,
    copy,
    jump,
    jump_if,
    jump_if_greater,
    jump_if_same,
    leave,
    load,
    load_map,
    load_wide,
    put,
    remainder32,
    store,
    store_number,
    subtract,
)

Direction = Literal["to_backend", "to_service"]
PASS: Final = 1
REFUSE: Final = 0
ATTEMPTS_MAX: Final = 2
"""Attempts to choose a backend. An attempt fails if the agent removes the backend meanwhile."""

NANOSECONDS: Final = 1_000_000_000

# struct bpf_sock_addr (include/uapi/linux/bpf.h).
_ADDRESS_AT: Final[dict[Family, int]] = {4: 4, 6: 8}
_PORT_AT: Final = 24
_PROTOCOL_AT: Final = 36

# Fields of ``map_layout.FrontendHead``.
_GROUP_AT: Final = 0
_SIZE_AT: Final = 4
_AFFINITY_AT: Final = 8

# Offsets on the stack. ``_TIME`` is an offset in the value of ``affinity``.
_FRONTEND: Final = -24
_SOCKET: Final = -64
_CLIENT: Final = -104
_CHOSEN: Final = -136
_TIME: Final = 24
_SLOT: Final = -144
_MEMBER: Final = -168

_R0, _R1, _R2, _R3, _R4 = Register.R0, Register.R1, Register.R2, Register.R3, Register.R4
_CONTEXT, _SERVICE, _BACKEND, _COOKIE = Register.R6, Register.R7, Register.R8, Register.R9
_FP: Final = Register.FP


class Hook(NamedTuple):
    """The kernel hook of one program. ``direction``: which address the program writes."""

    name: str
    number: int
    family: Family
    direction: Direction


PROGRAM_HOOKS: Final = (
    Hook("connect4", n.BPF_CGROUP_INET4_CONNECT, 4, "to_backend"),
    Hook("connect6", n.BPF_CGROUP_INET6_CONNECT, 6, "to_backend"),
    Hook("sendmsg4", n.BPF_CGROUP_UDP4_SENDMSG, 4, "to_backend"),
    Hook("sendmsg6", n.BPF_CGROUP_UDP6_SENDMSG, 6, "to_backend"),
    Hook("recvmsg4", n.BPF_CGROUP_UDP4_RECVMSG, 4, "to_service"),
    Hook("recvmsg6", n.BPF_CGROUP_UDP6_RECVMSG, 6, "to_service"),
    Hook("getpeername4", n.BPF_CGROUP_INET4_GETPEERNAME, 4, "to_service"),
    Hook("getpeername6", n.BPF_CGROUP_INET6_GETPEERNAME, 6, "to_service"),
)


class DesiredPrograms(NamedTuple):
    """Options of the programs.

    ``skipped_netns``: cookie of a network namespace whose sockets are not changed; 0: none.
    ``econnrefused``: refuse calls with ECONNREFUSED instead of EPERM (newer kernels only).
    """

    skipped_netns: int
    econnrefused: bool = True


def program(hook: Hook, desired: DesiredPrograms) -> list[Line]:
    """The program of one hook."""
    if hook.direction == "to_backend":
        lines = _replace_service(hook.family, desired)
    else:
        lines = _restore_service(hook.family)
    return [copy(_CONTEXT, _R1), *lines]


def _replace_service(family: Family, desired: DesiredPrograms) -> Iterator[Line]:
    yield copy(_R1, _CONTEXT)
    yield call(n.BPF_FUNC_get_netns_cookie, "get_netns_cookie")
    yield copy(_COOKIE, _R0)
    if desired.skipped_netns:
        yield load_wide(_R1, desired.skipped_netns)
        yield jump_if_same(_COOKIE, _R1, "pass")
    yield from _store_address(family, _FRONTEND)
    yield load(Size.WORD, _R1, _CONTEXT, _PROTOCOL_AT)
    yield store(Size.BYTE, _FP, _FRONTEND + 18, _R1)
    yield store_number(Size.BYTE, _FP, _FRONTEND + 19, 0)
    for attempt in range(ATTEMPTS_MAX):
        yield from _choose(attempt)
    yield jump("refuse")
    yield Label("chosen")
    yield from _store_reversed_entry()
    yield from _replace_address(family, _BACKEND, 0)
    yield Label("pass")
    yield put(_R0, PASS)
    yield leave()
    yield Label("refuse")
    if desired.econnrefused:
        yield put(_R1, -ECONNREFUSED)
        yield call(n.BPF_FUNC_set_retval, "set_retval")
    yield put(_R0, REFUSE)
    yield leave()


def _restore_service(family: Family) -> Iterator[Line]:
    yield from _store_address(family, _SOCKET + 8)
    yield from _complete_socket_key()
    yield from _find_entry(map_layout.REVERSED.name, _SOCKET)
    yield jump_if(n.BPF_JEQ, _R0, 0, "pass")
    yield copy(_SERVICE, _R0)
    yield from _replace_address(family, _SERVICE, 0)
    yield Label("pass")
    yield put(_R0, PASS)
    yield leave()


def _store_address(family: Family, at: int) -> Iterator[Line]:
    offset = _ADDRESS_AT[family]
    if family == 4:
        mapped = int.from_bytes(IPV4_MAPPED_PREFIX[8:], sys.byteorder, signed=True)
        yield store_number(Size.WORD, _FP, at, 0)
        yield store_number(Size.WORD, _FP, at + 4, 0)
        yield store_number(Size.WORD, _FP, at + 8, mapped)
        yield load(Size.WORD, _R1, _CONTEXT, offset)
        yield store(Size.WORD, _FP, at + 12, _R1)
    else:
        yield from _copy_to_stack(_CONTEXT, offset, at, 16)
    yield load(Size.WORD, _R1, _CONTEXT, _PORT_AT)
    yield store(Size.HALF, _FP, at + 16, _R1)


def _choose(attempt: int) -> Iterator[Line]:
    """Put a backend into R8 and jump to ``chosen``. If the backend is gone, fall through.

    ``attempt`` makes the labels unique.
    """
    random_choice, end = f"random_choice{attempt}", f"end{attempt}"
    yield from _find_entry(map_layout.SERVICES.name, _FRONTEND)
    yield jump_if(n.BPF_JEQ, _R0, 0, "pass")
    yield copy(_SERVICE, _R0)
    yield load(Size.WORD, _R1, _SERVICE, _SIZE_AT)
    yield jump_if(n.BPF_JEQ, _R1, 0, "refuse")
    yield load(Size.WORD, _R1, _SERVICE, _AFFINITY_AT)
    yield jump_if(n.BPF_JEQ, _R1, 0, random_choice)
    yield from _reuse_backend(random_choice)
    yield Label(random_choice)
    yield call(n.BPF_FUNC_get_prandom_u32, "get_prandom_u32")
    yield load(Size.WORD, _R1, _SERVICE, _SIZE_AT)
    yield remainder32(_R0, _R1)
    yield store(Size.WORD, _FP, _SLOT + 4, _R0)
    yield load(Size.WORD, _R1, _SERVICE, _GROUP_AT)
    yield store(Size.WORD, _FP, _SLOT, _R1)
    yield from _find_entry(map_layout.BACKENDS.name, _SLOT)
    yield jump_if(n.BPF_JEQ, _R0, 0, end)
    yield copy(_BACKEND, _R0)
    yield load(Size.WORD, _R1, _SERVICE, _AFFINITY_AT)
    yield jump_if(n.BPF_JEQ, _R1, 0, "chosen")
    yield from _store_affinity()
    yield jump("chosen")
    yield Label(end)


def _reuse_backend(random_choice: str) -> Iterator[Line]:
    """Jump to ``chosen`` if the client's last backend is valid, else to ``random_choice``."""
    yield store(Size.DOUBLE, _FP, _CLIENT, _COOKIE)
    yield from _copy_to_stack(_FP, _FRONTEND, _CLIENT + 8, 20)
    yield store_number(Size.WORD, _FP, _CLIENT + 28, 0)
    yield from _find_entry(map_layout.AFFINITY.name, _CLIENT)
    yield jump_if(n.BPF_JEQ, _R0, 0, random_choice)
    yield copy(_BACKEND, _R0)
    yield load(Size.WORD, _R1, _SERVICE, _GROUP_AT)
    yield store(Size.WORD, _FP, _MEMBER, _R1)
    yield from _copy_to_stack(_BACKEND, 0, _MEMBER + 4, 20)
    yield from _find_entry(map_layout.MEMBERS.name, _MEMBER)
    yield jump_if(n.BPF_JEQ, _R0, 0, random_choice)
    yield call(n.BPF_FUNC_ktime_get_ns, "ktime_get_ns")
    yield copy(_R2, _R0)
    yield load(Size.DOUBLE, _R1, _BACKEND, _TIME)
    yield subtract(_R2, _R1)
    yield load(Size.WORD, _R1, _SERVICE, _AFFINITY_AT)
    yield compute(n.BPF_MUL, _R1, NANOSECONDS)
    yield jump_if_greater(_R2, _R1, random_choice)
    yield store(Size.DOUBLE, _BACKEND, _TIME, _R0)
    yield jump("chosen")


def _store_affinity() -> Iterator[Line]:
    """Store the client's backend. ``_reuse_backend`` has put the key on the stack."""
    yield from _copy_to_stack(_BACKEND, 0, _CHOSEN, 20)
    yield store_number(Size.WORD, _FP, _CHOSEN + 20, 0)
    yield call(n.BPF_FUNC_ktime_get_ns, "ktime_get_ns")
    yield store(Size.DOUBLE, _FP, _CHOSEN + _TIME, _R0)
    yield from _update_entry(map_layout.AFFINITY.name, _CLIENT, _CHOSEN)


def _store_reversed_entry() -> Iterator[Line]:
    yield from _copy_to_stack(_BACKEND, 0, _SOCKET + 8, 20)
    yield from _complete_socket_key()
    yield from _update_entry(map_layout.REVERSED.name, _SOCKET, _FRONTEND)


def _complete_socket_key() -> Iterator[Line]:
    yield store_number(Size.HALF, _FP, _SOCKET + 26, 0)
    yield store_number(Size.WORD, _FP, _SOCKET + 28, 0)
    yield copy(_R1, _CONTEXT)
    yield call(n.BPF_FUNC_get_socket_cookie, "get_socket_cookie")
    yield store(Size.DOUBLE, _FP, _SOCKET, _R0)


def _replace_address(family: Family, base: Register, at: int) -> Iterator[Line]:
    target = _ADDRESS_AT[family]
    for offset in range(12 if family == 4 else 0, 16, 4):
        yield load(Size.WORD, _R1, base, at + offset)
        yield store(Size.WORD, _CONTEXT, target + (0 if family == 4 else offset), _R1)
    yield load(Size.HALF, _R1, base, at + 16)
    yield store(Size.WORD, _CONTEXT, _PORT_AT, _R1)


def _copy_to_stack(base: Register, offset: int, at: int, length: int) -> Iterator[Line]:
    for step in range(0, length, 4):
        yield load(Size.WORD, _R1, base, offset + step)
        yield store(Size.WORD, _FP, at + step, _R1)


def _find_entry(name: str, key: int) -> Iterator[Line]:
    yield load_map(_R1, name)
    yield copy(_R2, _FP)
    yield compute(n.BPF_ADD, _R2, key)
    yield call(n.BPF_FUNC_map_lookup_elem, "map_lookup_elem")


def _update_entry(name: str, key: int, value: int) -> Iterator[Line]:
    yield load_map(_R1, name)
    yield copy(_R2, _FP)
    yield compute(n.BPF_ADD, _R2, key)
    yield copy(_R3, _FP)
    yield compute(n.BPF_ADD, _R3, value)
    yield put(_R4, n.BPF_ANY)
    yield call(n.BPF_FUNC_map_update_elem, "map_update_elem")

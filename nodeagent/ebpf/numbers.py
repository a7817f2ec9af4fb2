"""Constants of the kernel's eBPF interface.

Sources: include/uapi/linux (bpf.h, bpf_common.h), asm/socket.h, system call tables.
"""

from __future__ import annotations

from typing import Final

# Commands of bpf(2).
BPF_MAP_CREATE: Final = 0
BPF_MAP_LOOKUP_ELEM: Final = 1
BPF_MAP_UPDATE_ELEM: Final = 2
BPF_MAP_DELETE_ELEM: Final = 3
BPF_MAP_GET_NEXT_KEY: Final = 4
BPF_PROG_LOAD: Final = 5
BPF_OBJ_PIN: Final = 6
BPF_OBJ_GET: Final = 7
BPF_OBJ_GET_INFO_BY_FD: Final = 15
BPF_LINK_CREATE: Final = 28
BPF_LINK_UPDATE: Final = 29
BPF_LINK_DETACH: Final = 34

# Maps.
BPF_MAP_TYPE_HASH: Final = 1
BPF_MAP_TYPE_LRU_HASH: Final = 9
BPF_F_NO_PREALLOC: Final = 1
BPF_ANY: Final = 0
BPF_OBJ_NAME_LEN: Final = 16

# Programs.
BPF_PROG_TYPE_CGROUP_SOCK_ADDR: Final = 18
BPF_CGROUP_INET4_CONNECT: Final = 10
BPF_CGROUP_INET6_CONNECT: Final = 11
BPF_CGROUP_UDP4_SENDMSG: Final = 14
BPF_CGROUP_UDP6_SENDMSG: Final = 15
BPF_CGROUP_UDP4_RECVMSG: Final = 19
BPF_CGROUP_UDP6_RECVMSG: Final = 20
BPF_CGROUP_INET4_GETPEERNAME: Final = 29
BPF_CGROUP_INET6_GETPEERNAME: Final = 30

# Kernel functions that a program may call.
BPF_FUNC_map_lookup_elem: Final = 1
BPF_FUNC_map_update_elem: Final = 2
BPF_FUNC_ktime_get_ns: Final = 5
BPF_FUNC_get_prandom_u32: Final = 7
BPF_FUNC_get_socket_cookie: Final = 46
BPF_FUNC_get_netns_cookie: Final = 122
BPF_FUNC_set_retval: Final = 187

# Parts of an instruction's code (RFC 9669, section 3).
BPF_LD: Final = 0x00
BPF_LDX: Final = 0x01
BPF_ST: Final = 0x02
BPF_STX: Final = 0x03
BPF_ALU: Final = 0x04
BPF_JMP: Final = 0x05
BPF_ALU64: Final = 0x07
BPF_W: Final = 0x00
BPF_H: Final = 0x08
BPF_B: Final = 0x10
BPF_DW: Final = 0x18
BPF_IMM: Final = 0x00
BPF_MEM: Final = 0x60
BPF_K: Final = 0x00
BPF_X: Final = 0x08
BPF_ADD: Final = 0x00
BPF_SUB: Final = 0x10
BPF_MUL: Final = 0x20
BPF_MOD: Final = 0x90
BPF_MOV: Final = 0xB0
BPF_JA: Final = 0x00
BPF_JEQ: Final = 0x10
BPF_JGT: Final = 0x20
BPF_JNE: Final = 0x50
BPF_CALL: Final = 0x80
BPF_EXIT: Final = 0x90
BPF_PSEUDO_MAP_FD: Final = 1

# Socket options and system calls.
SO_NETNS_COOKIE: Final = 71
SYSCALLS: Final = {"x86_64": 321, "aarch64": 280, "s390x": 351, "ppc64le": 361, "riscv64": 280}
"""The number of bpf(2), by machine (``uname -m``)."""

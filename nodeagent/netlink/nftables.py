"""Creates nftables tables over netlink: one table for each address family, in one transaction.

A rule is a list of expressions, which all use the same register. The small numbers in calls of
``attribute`` and ``nested`` are NFTA_* types (include/uapi/linux/netfilter/nf_tables.h).
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from errno import EAFNOSUPPORT, EAGAIN, ENOENT, EOPNOTSUPP, EPROTONOSUPPORT
from functools import cache
from struct import Struct
from typing import Final, NamedTuple

from core.domain.addresses.ip_address import Family
from core.errors import NetlinkLost, NetlinkRefused
from nodeagent.netlink import numbers as n
from nodeagent.netlink.codec import (
    I32,
    U32,
    attribute,
    attribute_text,
    attributes,
    elements,
    message,
    messages,
    nested,
    text,
)
from nodeagent.netlink.namespaces import NetnsExecutor, NetworkNamespace
from nodeagent.netlink.requests import AF_OF

NETLINK_NETFILTER: Final = 12
UNSUPPORTED: Final = frozenset({EAFNOSUPPORT, ENOENT, EOPNOTSUPP, EPROTONOSUPPORT})
"""Errors of a kernel that lacks nftables or an expression."""

_SUBSYSTEM: Final = 10
_BATCH_BEGIN: Final = 0x10
_BATCH_END: Final = 0x11
_NEWTABLE: Final = _SUBSYSTEM << 8 | 0
_DELTABLE: Final = _SUBSYSTEM << 8 | 2
_NEWCHAIN: Final = _SUBSYSTEM << 8 | 3
_NEWRULE: Final = _SUBSYSTEM << 8 | 6
_GETRULE: Final = _SUBSYSTEM << 8 | 7

_NFGENMSG: Final = Struct(">BBH")
_BE32: Final = Struct(">I")
_BE32_SIGNED: Final = Struct(">i")
_RECEIVE_BYTES: Final = 1 << 16
_REGISTER: Final = 1
_NAME_BYTES: Final = 16
_LIST_ELEMENT: Final = 1
_CMP_EQ: Final = 0
_CMP_NEQ: Final = 1

PREROUTING: Final = 0
OUTPUT: Final = 3
MANGLE: Final = -150
"""The priority of iptables' mangle table: later than connection tracking."""

META_MARK: Final = 3
META_IIFNAME: Final = 6
CT_STATE: Final = 0
CT_MARK: Final = 3
CT_STATE_NEW: Final = 8


class Chain(NamedTuple):
    """A base chain; ``kind`` is "filter" or "route"."""

    name: str
    kind: str
    hook: int
    priority: int
    rules: tuple[tuple[bytes, ...], ...]


@contextmanager
def opened_socket(executor: NetnsExecutor, namespace: NetworkNamespace) -> Iterator[socket.socket]:
    """An nftables socket. Raises NetlinkRefused, and the errors of ``NetnsExecutor.run``."""
    kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
    try:
        netlink = executor.socket(namespace, socket.AF_NETLINK, kind, NETLINK_NETFILTER)
    except OSError as error:
        raise _refused(error.errno or EPROTONOSUPPORT) from error
    with netlink:
        with suppress(OSError):
            netlink.setsockopt(n.SOL_NETLINK, n.NETLINK_CAP_ACK, 1)
        yield netlink


def create_tables(
    netlink: socket.socket, families: tuple[Family, ...], name: str, chains: tuple[Chain, ...]
) -> None:
    """Create a table for each family.

    Raises NetlinkLost, NetlinkRefused (EEXIST, after 10-20 ms, if a table exists).
    """
    create = _Command(_NEWTABLE, attribute_text(1, name), n.NLM_F_CREATE | n.NLM_F_EXCL)
    _commit(netlink, families, (create, *_chain_commands(name, chains)))


def replace_tables(
    netlink: socket.socket, families: tuple[Family, ...], name: str, chains: tuple[Chain, ...]
) -> None:
    """Create or replace the table of each family. Raises NetlinkRefused, NetlinkLost.

    The kernel waits 10-20 ms for readers of a replaced table.
    """
    table = attribute_text(1, name)
    create = _Command(_NEWTABLE, table, n.NLM_F_CREATE)
    # To delete a missing table is an error, so the table is created first.
    delete = _Command(_DELTABLE, table)
    _commit(netlink, families, (create, delete, create, *_chain_commands(name, chains)))


def rules_in(netlink: socket.socket, family: Family, name: str) -> list[str]:
    """Each rule as text: chain and expression names. Raises NetlinkRefused, NetlinkLost."""
    body = _NFGENMSG.pack(AF_OF[family], 0, 0) + attribute_text(1, name)
    _send(netlink, message(_GETRULE, n.NLM_F_REQUEST | n.NLM_F_DUMP, 1, body))
    rules: list[str] = []
    while True:
        for kind, _, _, reply in messages(memoryview(_received(netlink))):
            if kind == n.NLMSG_DONE:
                return rules
            if kind == n.NLMSG_ERROR:
                raise _refused(-I32.unpack_from(reply)[0])
            rule = attributes(reply[_NFGENMSG.size :])
            # Old kernels list the rules of every table.
            if text(rule.get(1)) == name:
                rules.append(" ".join((text(rule.get(2)), *_expression_names(rule[4]))))


def load_meta(key: int) -> bytes:
    """Load ``META_*`` into the register."""
    return _expression("meta", attribute(2, _BE32.pack(key)), _register(1))


def set_meta(key: int) -> bytes:
    """Set ``META_*`` from the register."""
    return _expression("meta", attribute(2, _BE32.pack(key)), _register(3))


def load_ct(key: int) -> bytes:
    """Load ``CT_*`` into the register."""
    return _expression("ct", attribute(2, _BE32.pack(key)), _register(1))


def set_ct(key: int) -> bytes:
    """Set ``CT_*`` from the register."""
    return _expression("ct", attribute(2, _BE32.pack(key)), _register(4))


def equals(value: bytes) -> bytes:
    """Continue the rule only if the register has this value."""
    return _expression("cmp", _register(1), attribute(2, _BE32.pack(_CMP_EQ)), _data(3, value))


def has_bits(bits: int) -> tuple[bytes, bytes]:
    """Continue the rule only if the register has at least one of these bits."""
    mask, zero = U32.pack(bits), bytes(4)
    masked = _expression(
        "bitwise",
        _register(1),
        _register(2),
        attribute(3, _BE32.pack(4)),
        _data(4, mask),
        _data(5, zero),
    )
    differs = _expression("cmp", _register(1), attribute(2, _BE32.pack(_CMP_NEQ)), _data(3, zero))
    return masked, differs


def put(value: bytes) -> bytes:
    """Put a value into the register."""
    return _expression("immediate", _register(1), _data(2, value))


def interface_name(name: str) -> bytes:
    """An interface name in the register's format."""
    return name.encode().ljust(_NAME_BYTES, b"\0")


def _expression(name: str, *details: bytes) -> bytes:
    return attribute_text(1, name) + nested(2, *details)


def _register(kind: int) -> bytes:
    return attribute(kind, _BE32.pack(_REGISTER))


def _data(kind: int, value: bytes) -> bytes:
    return nested(kind, attribute(1, value))


def _priority(priority: int) -> bytes:
    return attribute(2, _BE32_SIGNED.pack(priority))


def _expression_names(expressions: memoryview) -> list[str]:
    return [text(attributes(expression).get(1)) for expression in elements(expressions)]


class _Command(NamedTuple):
    kind: int
    body: bytes
    flags: int = 0


@cache
def _chain_commands(name: str, chains: tuple[Chain, ...]) -> tuple[_Command, ...]:
    table = attribute_text(1, name)
    commands = []
    for chain in chains:
        hook = nested(4, attribute(1, _BE32.pack(chain.hook)), _priority(chain.priority))
        body = table + attribute_text(3, chain.name) + hook + attribute_text(7, chain.kind)
        commands.append(_Command(_NEWCHAIN, body, n.NLM_F_CREATE))
        for rule in chain.rules:
            expressions = nested(4, *(nested(_LIST_ELEMENT, expression) for expression in rule))
            body = table + attribute_text(2, chain.name) + expressions
            commands.append(_Command(_NEWRULE, body, n.NLM_F_CREATE | n.NLM_F_APPEND))
    return tuple(commands)


def _commit(
    netlink: socket.socket, families: tuple[Family, ...], commands: tuple[_Command, ...]
) -> None:
    _send(netlink, _batch(families, commands))
    unacknowledged = len(families) * len(commands)
    while unacknowledged:
        for kind, _, _, reply in messages(memoryview(_received(netlink))):
            if kind != n.NLMSG_ERROR:
                continue
            number = -I32.unpack_from(reply)[0]
            if number:
                raise _refused(number)
            unacknowledged -= 1


@cache
def _batch(families: tuple[Family, ...], commands: tuple[_Command, ...]) -> bytes:
    batch_header = _NFGENMSG.pack(0, 0, _SUBSYSTEM)
    parts = [message(_BATCH_BEGIN, n.NLM_F_REQUEST, 0, batch_header)]
    for family in families:
        header = _NFGENMSG.pack(AF_OF[family], 0, 0)
        for command in commands:
            flags = n.NLM_F_REQUEST | n.NLM_F_ACK | command.flags
            parts.append(message(command.kind, flags, len(parts), header + command.body))
    parts.append(message(_BATCH_END, n.NLM_F_REQUEST, 0, batch_header))
    return b"".join(parts)


def _send(netlink: socket.socket, data: bytes) -> None:
    # Discard answers to an earlier, failed transaction.
    with suppress(BlockingIOError):
        while True:
            netlink.recv(_RECEIVE_BYTES)
    netlink.send(data)


def _received(netlink: socket.socket) -> bytes:
    try:
        return netlink.recv(_RECEIVE_BYTES)
    except OSError as error:
        why = "the answer did not arrive" if error.errno == EAGAIN else error.strerror
        raise NetlinkLost(
            f"reading the kernel's answer to an nftables request failed: {why}", remedy="try again"
        ) from error


def _refused(number: int) -> NetlinkRefused:
    remedy = "try again; if it fails again, check that the agent has the capability NET_ADMIN"
    if number in UNSUPPORTED:
        remedy = "load the modules nf_tables and nft_ct, or install iptables"
    text = f"the kernel refused an nftables request: {os.strerror(number)}"
    return NetlinkRefused(text, errno=number, remedy=remedy)

"""Reads RDMA devices, ports and counters; moves RDMA devices between network namespaces.

In exclusive mode each device is in one namespace; in shared mode every namespace has all devices.
To move a device or to set the mode needs CAP_NET_ADMIN. See include/uapi/rdma/rdma_netlink.h.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from errno import EFBIG
from struct import Struct
from typing import Final, NamedTuple, Self

from nodeagent.netlink import numbers as n
from nodeagent.netlink.codec import (
    attribute,
    attribute_u32,
    attributes,
    elements,
    message,
    messages,
    text,
    u32,
)
from nodeagent.netlink.namespaces import NetnsExecutor, NetworkNamespace

NETLINK_RDMA: Final = 20
ANSWER_S_MAX: Final = 2.0

RECEIVE_BYTES: Final = 1 << 18

ANSWERS_MAX: Final = 4_096

_NLDEV: Final = 5 << 10
_DEVICES: Final = _NLDEV | 1
_SET_DEVICE: Final = _NLDEV | 2
_PORTS: Final = _NLDEV | 5
_SYSTEM: Final = _NLDEV | 6
_SET_SYSTEM: Final = _NLDEV | 7
_COUNTERS: Final = _NLDEV | 17
_DEVICE_INDEX: Final = 1
_DEVICE_NAME: Final = 2
_PORT_INDEX: Final = 3
_NODE_GUID: Final = 6
_SYSTEM_GUID: Final = 7
_LINK_NAME: Final = 51
_NETNS_MODE: Final = 66
_NETNS_FD: Final = 68
_HW_COUNTERS: Final = 80
_COUNTER_NAME: Final = 82
_COUNTER_VALUE: Final = 83
_EXCLUSIVE: Final = 0
_SHARED: Final = 1
_U64: Final = Struct("=Q")
_ERROR: Final = Struct("=i")

Attributes = dict[int, memoryview]


class RdmaDevice(NamedTuple):
    """An RDMA device."""

    number: int
    name: str
    node_guid: int
    system_guid: int


class RdmaPort(NamedTuple):
    """A port of a device.

    ``link``: the port's network interface in the socket's namespace; "" if there is none.
    """

    number: int
    link: str


class RdmaSocket:
    """An RDMA netlink socket. Methods that send a request raise OSError."""

    def __init__(self, netlink: socket.socket) -> None:
        netlink.settimeout(ANSWER_S_MAX)
        self._netlink = netlink

    @classmethod
    def open(cls, executor: NetnsExecutor, namespace: NetworkNamespace) -> Self | None:
        """A socket in a namespace; None if the kernel refuses, for example without RDMA.

        Raises the errors of ``NetnsExecutor.run``.
        """
        kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC
        try:
            return cls(executor.socket(namespace, socket.AF_NETLINK, kind, NETLINK_RDMA))
        except OSError:
            return None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._netlink.close()

    def devices(self) -> list[RdmaDevice]:
        """Every device."""
        return [
            RdmaDevice(
                u32(device.get(_DEVICE_INDEX)),
                text(device.get(_DEVICE_NAME)),
                _u64(device.get(_NODE_GUID)),
                _u64(device.get(_SYSTEM_GUID)),
            )
            for device in self._list(_DEVICES, b"")
        ]

    def ports(self, device: RdmaDevice) -> list[RdmaPort]:
        """Every port."""
        request = attribute_u32(_DEVICE_INDEX, device.number)
        return [
            RdmaPort(u32(port.get(_PORT_INDEX)), text(port.get(_LINK_NAME)))
            for port in self._list(_PORTS, request)
        ]

    def ports_by_link(self) -> dict[str, list[tuple[RdmaDevice, RdmaPort]]]:
        """The ports that have a link, by link."""
        ports: dict[str, list[tuple[RdmaDevice, RdmaPort]]] = {}
        for device in self.devices():
            for port in self.ports(device):
                if port.link:
                    ports.setdefault(port.link, []).append((device, port))
        return ports

    def counters(self, device: RdmaDevice, port: RdmaPort) -> dict[str, int] | None:
        """A port's counters by name; None if the kernel does not list counters."""
        request = attribute_u32(_DEVICE_INDEX, device.number)
        answer = self._ask(_COUNTERS, request + attribute_u32(_PORT_INDEX, port.number))
        if answer is None or _HW_COUNTERS not in answer:
            return None
        counters = [attributes(element) for element in elements(answer[_HW_COUNTERS])]
        return {
            text(counter.get(_COUNTER_NAME)): _u64(counter.get(_COUNTER_VALUE))
            for counter in counters
        }

    def exclusive(self) -> bool:
        """Whether the exclusive mode is set (``rdma system``)."""
        answer = self._ask(_SYSTEM, b"") or {}
        # A kernel without this attribute always shares devices.
        return _NETNS_MODE in answer and answer[_NETNS_MODE][0] == _EXCLUSIVE

    def set_exclusive(self, *, exclusive: bool) -> None:
        """Set the exclusive or the shared mode.

        Fails with EBUSY while other network namespaces exist.
        """
        self._change(
            _SET_SYSTEM, attribute(_NETNS_MODE, bytes([_EXCLUSIVE if exclusive else _SHARED]))
        )

    def move(self, device: RdmaDevice, netns_fd: int) -> None:
        """Move a device into another namespace. Needs the exclusive mode."""
        request = attribute_u32(_DEVICE_INDEX, device.number)
        self._change(_SET_DEVICE, request + attribute_u32(_NETNS_FD, netns_fd))

    def _change(self, kind: int, body: bytes) -> None:
        self._netlink.send(message(kind, n.NLM_F_REQUEST | n.NLM_F_ACK, 1, body))
        for answer, _, _, reply in messages(memoryview(self._netlink.recv(RECEIVE_BYTES))):
            number = -_ERROR.unpack_from(reply)[0] if answer == n.NLMSG_ERROR else 0
            if number:
                raise OSError(number, os.strerror(number))

    def _ask(self, kind: int, body: bytes) -> Attributes | None:
        """The kernel's answer; None if the kernel refuses the request."""
        self._netlink.send(message(kind, n.NLM_F_REQUEST, 1, body))
        for answer, _, _, reply in messages(memoryview(self._netlink.recv(RECEIVE_BYTES))):
            return None if answer == n.NLMSG_ERROR else attributes(reply)
        return None

    def _list(self, kind: int, body: bytes) -> Iterator[Attributes]:
        """The kernel's answers; none if the kernel refuses the request."""
        self._netlink.send(message(kind, n.NLM_F_REQUEST | n.NLM_F_DUMP, 1, body))
        for _ in range(ANSWERS_MAX):
            for answer, _, _, reply in messages(memoryview(self._netlink.recv(RECEIVE_BYTES))):
                if answer in (n.NLMSG_DONE, n.NLMSG_ERROR):
                    return
                yield attributes(reply)
        raise OSError(EFBIG, f"more than {ANSWERS_MAX} answers to one RDMA netlink request")


def _u64(value: memoryview | None) -> int:
    return 0 if value is None else int(_U64.unpack_from(value)[0])

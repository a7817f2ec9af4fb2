"""A simulated kernel that answers RDMA netlink requests, for machines without RDMA.

Numbers of commands and attributes: include/uapi/rdma/rdma_netlink.h.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping
from errno import EPERM
from typing import Any, NamedTuple, cast

from nodeagent.netlink.codec import (
    attribute,
    attribute_text,
    attribute_u32,
    attributes,
    nested,
    u32,
)
from nodeagent.netlink.namespaces import NamespaceIdentity, NetnsExecutor, NetworkNamespace
from nodeagent.netlink.rdma import RdmaSocket

DONE = 3
ERROR = 2
DUMP = 0x300
EXCLUSIVE_MODE = 0
SHARED_MODE = 1


class Port(NamedTuple):
    """A port; ``counters`` is None if the kernel refuses to return them."""

    link: str
    counters: Mapping[str, int] | None = {}


class Device(NamedTuple):
    name: str
    node_guid: int
    system_guid: int
    ports: tuple[Port, ...]


class Kernel:
    """The RDMA devices of each namespace, and the RDMA mode.

    ``mode`` is None if the kernel does not report the mode. ``refusal`` is the errno of every
    change, or 0.
    """

    def __init__(self, mode: int | None = SHARED_MODE) -> None:
        self.mode = mode
        self.refusal = 0
        self.devices: dict[NamespaceIdentity, tuple[Device, ...]] = {}

    def open(self, _: NetnsExecutor, namespace: NetworkNamespace) -> RdmaSocket | None:
        """A fake of ``RdmaSocket.open``; return None if ``devices`` lacks the namespace."""
        if namespace.identity not in self.devices:
            return None
        return RdmaSocket(cast("Any", _Socket(self, namespace.identity)))

    def namespaces_of(self, name: str) -> list[NamespaceIdentity]:
        """The namespaces that have a device of this name."""
        return [
            identity
            for identity, devices in self.devices.items()
            if any(device.name == name for device in devices)
        ]

    def move(self, device_index: int, source: NamespaceIdentity, netns_fd: int) -> int:
        """Move a device to another namespace; return an errno or 0."""
        if self.refusal or self.mode != EXCLUSIVE_MODE:
            return self.refusal or EPERM
        status = os.fstat(netns_fd)
        target = NamespaceIdentity(status.st_dev, status.st_ino)
        devices = list(self.devices[source])
        moved = devices.pop(device_index)
        self.devices[source] = tuple(devices)
        self.devices[target] = (*self.devices.get(target, ()), moved)
        return 0

    def change_mode(self, mode: int) -> int:
        """Change the mode; return an errno or 0."""
        if not self.refusal:
            self.mode = mode
        return self.refusal


class _Socket:
    def __init__(self, kernel: Kernel, identity: NamespaceIdentity) -> None:
        self._kernel = kernel
        self._identity = identity
        self._devices = kernel.devices[identity]
        self._mode = kernel.mode
        self._answers: list[bytes] = []

    def settimeout(self, _: float) -> None:
        """Do nothing: the socket never waits."""

    def close(self) -> None:
        """Do nothing."""

    def send(self, request: bytes) -> None:
        kind, flags = struct.unpack_from("=HH", request, 4)
        request_body = attributes(request[16:])
        command = kind & 0x3FF
        assert kind >> 10 == 5, "expected a request to the client RDMA_NL_NLDEV"
        assert bool(flags & DUMP) == (command in (1, 5))  # only listings are dumps
        device, port = u32(request_body.get(1)), u32(request_body.get(3))
        match command:
            case 1:  # list devices
                self._answers = self._listed_devices(kind)
            case 5:  # list ports
                self._answers = self._listed_ports(kind, device)
            case 2:  # move a device; attribute 68 is the descriptor of the new namespace
                errno = self._kernel.move(device, self._identity, u32(request_body.get(68)))
                self._answers = [_message(ERROR, struct.pack("=i", -errno))]
            case 7:  # change the mode, attribute 66
                errno = self._kernel.change_mode(request_body[66][0])
                self._answers = [_message(ERROR, struct.pack("=i", -errno))]
            case 6:  # read the mode
                self._answers = self._current_mode(kind)
            case _:
                self._answers = self._counters(kind, device, port)

    def recv(self, _: int) -> bytes:
        return self._answers.pop(0)

    def _listed_devices(self, kind: int) -> list[bytes]:
        bodies = (
            attribute_u32(1, number)
            + attribute_text(2, device.name)
            + attribute(6, struct.pack("=Q", device.node_guid))
            + attribute(7, struct.pack("=Q", device.system_guid))
            for number, device in enumerate(self._devices)
        )
        return [*(_message(kind, body) for body in bodies), _message(DONE, bytes(4))]

    def _listed_ports(self, kind: int, device: int) -> list[bytes]:
        bodies = (
            attribute_u32(3, number) + (attribute_text(51, port.link) if port.link else b"")
            for number, port in enumerate(self._devices[device].ports, 1)
        )
        # As in the kernel, one datagram has the ports and the end of the list.
        return [b"".join((*(_message(kind, body) for body in bodies), _message(DONE, bytes(4))))]

    def _current_mode(self, kind: int) -> list[bytes]:
        return [_message(kind, b"" if self._mode is None else attribute(66, bytes([self._mode])))]

    def _counters(self, kind: int, device: int, port: int) -> list[bytes]:
        counters = self._devices[device].ports[port - 1].counters
        if counters is None:
            return [_message(ERROR, struct.pack("=i", -22))]
        entries = (
            nested(81, attribute_text(82, name), attribute(83, struct.pack("=Q", value)))
            for name, value in counters.items()
        )
        return [_message(kind, attribute_u32(1, device) + nested(80, *entries))]


def _message(kind: int, body: bytes) -> bytes:
    head = struct.pack("=IHHII", 16 + len(body), kind, 0, 1, 0)
    return head + body + bytes(-len(body) % 4)

"""What is behind a node's links: PCI devices, virtual functions, RDMA devices. Reads only.

A link's driver names its PCI device, also where /sys shows another network namespace; the kernel's
RDMA devices name the link that each of their ports speaks over. Promise: what a kernel or a link
does not have is left out, never guessed.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from nodeagent.masters import SYSFS, driver_bus
from nodeagent.netlink import numbers as n
from nodeagent.netlink.namespaces import Namespace, Visitor
from nodeagent.netlink.wire import attribute_u32, attributes, message, messages, text, u32

NETLINK_RDMA: Final = 20
ANSWER_S_MAX: Final = 2.0

# include/uapi/rdma/rdma_netlink.h
_NLDEV: Final = 5 << 10
_DEVICES: Final = _NLDEV | 1
_PORTS: Final = _NLDEV | 5
_DEVICE_INDEX: Final = 1
_DEVICE_NAME: Final = 2
_LINK_NAME: Final = 51
_RECEIVE_BYTES: Final = 1 << 16


class Hardware(NamedTuple):
    """Behind one link. ``vfs`` of ``vfs_max`` virtual functions are made."""

    device: str = ""
    vfs: int = 0
    vfs_max: int = 0
    rdma: tuple[str, ...] = ()


def read_hardware(
    visitor: Visitor, namespace: Namespace, links: Iterable[str], sysfs: Path = SYSFS
) -> dict[str, Hardware]:
    """By link. Raises OSError."""
    wanted = tuple(links)
    buses = visitor.visit(namespace, _buses_of(wanted))
    rdma = _rdma_devices(visitor, namespace)
    return {
        link: _behind(sysfs / "bus/pci/devices" / buses.get(link, ""), tuple(rdma.get(link, ())))
        for link in wanted
    }


def _behind(device: Path, rdma: tuple[str, ...]) -> Hardware:
    if not (device / "class").exists():
        return Hardware(rdma=rdma)
    return Hardware(
        device.name, _number(device / "sriov_numvfs"), _number(device / "sriov_totalvfs"), rdma
    )


def _number(path: Path) -> int:
    return int(path.read_text("ascii")) if path.exists() else 0


def _buses_of(links: tuple[str, ...]) -> Callable[[], dict[str, str]]:
    def read() -> dict[str, str]:
        found = {}
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as inside:
            for link in links:
                # Many a virtual link has no driver that answers.
                with suppress(OSError):
                    found[link] = driver_bus(inside, link)
        return found

    return read


def _rdma_devices(visitor: Visitor, namespace: Namespace) -> dict[str, list[str]]:
    """The names of RDMA devices, by link; none where the kernel has no RDMA."""
    found: dict[str, list[str]] = {}
    kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC
    try:
        netlink = visitor.socket(namespace, socket.AF_NETLINK, kind, NETLINK_RDMA)
    except OSError:
        return found
    with netlink:
        netlink.settimeout(ANSWER_S_MAX)
        devices = list(_listed(netlink, _DEVICES, b""))
        for device in devices:
            index = attribute_u32(_DEVICE_INDEX, u32(device.get(_DEVICE_INDEX)))
            for port in _listed(netlink, _PORTS, index):
                link = text(port.get(_LINK_NAME))
                if link:
                    found.setdefault(link, []).append(text(device.get(_DEVICE_NAME)))
    return found


def _listed(netlink: socket.socket, kind: int, body: bytes) -> Iterator[dict[int, memoryview]]:
    netlink.send(message(kind, n.NLM_F_REQUEST | n.NLM_F_DUMP, 1, body))
    while True:
        for reply in messages(memoryview(netlink.recv(_RECEIVE_BYTES))):
            if reply.kind in (n.NLMSG_DONE, n.NLMSG_ERROR):
                return
            yield attributes(reply.body)

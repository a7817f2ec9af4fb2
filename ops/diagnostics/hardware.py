"""Reads the PCI devices, virtual functions and RDMA devices behind a node's links.

The driver reports a link's PCI device, even if /sys shows another network namespace.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from nodeagent.devices.physical_functions import rdma_devices
from nodeagent.netlink.ethtool import bus_address
from nodeagent.netlink.namespaces import NetnsExecutor, NetworkNamespace
from nodeagent.netlink.rdma import RdmaSocket
from nodeagent.sriov_master_addresses import SYSFS


class Hardware(NamedTuple):
    """The hardware of one link. ``device``: a PCI address. ``rdma``: names of RDMA devices."""

    device: str = ""
    vfs: int = 0
    vfs_max: int = 0
    rdma: tuple[str, ...] = ()


def read_hardware(
    executor: NetnsExecutor, namespace: NetworkNamespace, links: Iterable[str], sysfs: Path = SYSFS
) -> dict[str, Hardware]:
    """Link -> its hardware. Raises OSError."""
    names = tuple(links)
    pci_addresses = executor.run(namespace, _pci_address_reader(names))
    rdma = _rdma_devices(executor, namespace)
    return {
        link: _hardware_of(
            sysfs / "bus/pci/devices" / pci_addresses.get(link, ""), tuple(rdma.get(link, ()))
        )
        for link in names
    }


def _hardware_of(device: Path, rdma: tuple[str, ...]) -> Hardware:
    if not (device / "class").exists():  # no PCI device
        return Hardware(rdma=rdma)
    return Hardware(
        device.name,
        _number(device / "sriov_numvfs"),
        _number(device / "sriov_totalvfs"),
        # Netlink reports no link for the RDMA device of an InfiniBand NIC, so read /sys.
        rdma or rdma_devices(device),
    )


def _number(path: Path) -> int:
    return int(path.read_text("ascii")) if path.exists() else 0


def _pci_address_reader(links: tuple[str, ...]) -> Callable[[], dict[str, str]]:

    def read() -> dict[str, str]:
        pci_addresses = {}
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as query_socket:
            for link in links:
                # Most virtual links have no driver that answers.
                with suppress(OSError):
                    pci_addresses[link] = bus_address(query_socket, link)
        return pci_addresses

    return read


def _rdma_devices(executor: NetnsExecutor, namespace: NetworkNamespace) -> dict[str, list[str]]:
    """Link -> names of its RDMA devices; empty if the kernel has no RDMA."""
    rdma_socket = RdmaSocket.open(executor, namespace)
    if rdma_socket is None:
        return {}
    with rdma_socket:
        ports = rdma_socket.ports_by_link()
    return {link: [device.name for device, _ in entries] for link, entries in ports.items()}

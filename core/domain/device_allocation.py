"""Devices that a device plugin offers to kubelet, and what a container with a device gets.

An ``Offer`` is one extended resource: slots of a NIC, virtual functions, or shares of RDMA devices.
The environment variables have the names that programs know from the SR-IOV device plugin.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple, Protocol

READ_WRITE: Final = "rw"
READ_WRITE_MKNOD: Final = "rwm"

_PCI_VARIABLE: Final = "PCIDEVICE"


class Device(NamedTuple):
    """One device. ``numa_node`` None: the device has no NUMA node, or does not report the node."""

    id: str
    is_healthy: bool = True
    numa_node: int | None = None


class DeviceFile(NamedTuple):
    """A character device, with the same ``path`` on the host and in the container."""

    path: str
    permissions: str = READ_WRITE_MKNOD


class DeviceAllocation(NamedTuple):
    """The environment variables and device files of one container."""

    variables: Mapping[str, str] = {}
    files: tuple[DeviceFile, ...] = ()


class Offer(Protocol):
    """The devices of one extended resource. Equal offers have equal devices."""

    @property
    def size(self) -> int:
        """The number of devices, healthy or not."""
        ...

    def devices(self) -> list[Device]:
        """Every device, in a stable order."""
        ...

    def has(self, device: str, /) -> bool: ...

    def allocation(self, devices: Sequence[str], /) -> DeviceAllocation:
        """What a container with these devices gets. Raises OSError."""
        ...


def pci_variable(resource: str) -> str:
    """The variable with the PCI addresses of a resource such as ``spidernet.io/vf``."""
    return "_".join((_PCI_VARIABLE, *resource.replace(".", "_").upper().split("/", 1)))

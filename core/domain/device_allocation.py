"""Devices as a device plugin offers them to kubelet, and what a container with them gets.

An ``Offer`` is one extended resource: slots of a NIC, virtual functions, or shares of RDMA devices.
kubelet chooses devices by their ids, and the plugin answers with variables and device files. Names
of variables are those of the SR-IOV device plugin, because programs in containers read them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple, Protocol

READ_WRITE: Final = "rw"
READ_WRITE_MKNOD: Final = "rwm"

_PCI_VARIABLE: Final = "PCIDEVICE"


class Device(NamedTuple):
    """One device of a list. ``numa_node`` None: it is near no CPU, or that is not to be known."""

    id: str
    is_healthy: bool = True
    numa_node: int | None = None


class DeviceFile(NamedTuple):
    """A character device of the host; containers see it as ``path`` too."""

    path: str
    permissions: str = READ_WRITE_MKNOD


class DeviceAllocation(NamedTuple):
    """What one container gets with its devices."""

    variables: Mapping[str, str] = {}
    files: tuple[DeviceFile, ...] = ()


class Offer(Protocol):
    """The devices of one resource. Equal offers have equal lists."""

    @property
    def size(self) -> int:
        """How many devices there are, healthy or not."""
        ...

    def devices(self) -> list[Device]:
        """Every device, in a stable order."""
        ...

    def has(self, device: str, /) -> bool:
        """Whether it is the id of one of ``devices``."""
        ...

    def allocation(self, devices: Sequence[str], /) -> DeviceAllocation:
        """What one container with these devices gets. May read files; raises OSError."""
        ...


def pci_variable(resource: str) -> str:
    """The variable that lists the PCI addresses of a resource, such as spidernet.io/vf."""
    return "_".join((_PCI_VARIABLE, *resource.replace(".", "_").upper().split("/", 1)))

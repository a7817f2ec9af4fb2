"""Finds the character devices that a container needs for a PCI device. Reads /sys only.

Files are looked up for each container, because the numbers in their names may change.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from core.domain.device_allocation import READ_WRITE_MKNOD, DeviceFile
from nodeagent.sriov_master_addresses import SYSFS

RDMA_DIRECTORY: Final = "/dev/infiniband"
VFIO_DIRECTORY: Final = "/dev/vfio"

RDMA_CLASSES: Final = ("infiniband_verbs", "infiniband_mad")
"""infiniband_verbs has uverbsN; infiniband_mad has umadN and issmN."""

_NO_IOMMU: Final = "vfio-noiommu"


class PciFiles(NamedTuple):
    """Reads a node's PCI devices. Methods raise OSError."""

    sysfs: Path = SYSFS

    def rdma_name(self, address: str) -> str:
        """The RDMA device of a PCI device; "" if the host's network namespace does not have it."""
        return next(_names(self._device(address) / "infiniband"), "")

    def rdma_files(self, address: str) -> tuple[DeviceFile, ...]:
        device = self._device(address)
        names = [name for kind in RDMA_CLASSES for name in _names(device / kind)]
        return rdma_character_devices(self.sysfs, names)

    def vfio_files(self, address: str) -> tuple[DeviceFile, ...]:
        """The file of VFIO, then the file of the device's IOMMU group.

        Raises OSError if the device has no IOMMU group.
        """
        group = (self._device(address) / "iommu_group").resolve(strict=True)
        uses_noiommu = read_text(group / "name") == _NO_IOMMU
        file = f"noiommu-{group.name}" if uses_noiommu else group.name
        return tuple(
            DeviceFile(f"{VFIO_DIRECTORY}/{name}", READ_WRITE_MKNOD) for name in ("vfio", file)
        )

    def _device(self, address: str) -> Path:
        return self.sysfs / "bus/pci/devices" / address


def rdma_character_devices(sysfs: Path, names: list[str]) -> tuple[DeviceFile, ...]:
    """The device files with these names. If there is one, that of rdma_cm is the first."""
    # The file of rdma_cm is left out if it does not exist: a container runtime would refuse it.
    manager = ["rdma_cm"] if names and (sysfs / "class/misc/rdma_cm").exists() else []
    return tuple(DeviceFile(f"{RDMA_DIRECTORY}/{name}") for name in [*manager, *names])


def _names(directory: Path) -> Iterator[str]:
    if directory.is_dir():
        yield from sorted(entry.name for entry in directory.iterdir())


def read_text(path: Path) -> str:
    """The text of a file; "" if the file cannot be read."""
    try:
        return path.read_text("ascii").strip()
    except OSError:
        return ""

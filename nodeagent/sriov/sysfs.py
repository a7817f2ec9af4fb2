"""Reads and writes files of /sys (Documentation/ABI/testing)."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Final

from core.errors import DatapathError

DEVICES: Final = "bus/pci/devices"
DRIVERS_PATH: Final = "bus/pci/drivers"

_REMEDIES: Final = {
    errno.EROFS: "mount the node's /sys writable, as the chart does with sriov.install or"
    " orbweaver.roceQos",
    errno.EACCES: "run the agent as root with the node's /sys",
    errno.EPERM: "run the agent as root with the node's /sys",
    errno.ENOENT: "check that the NIC's driver supports this setting: modinfo DRIVER, dmesg",
    errno.EBUSY: "end the programs that use the virtual functions; the agent tries again",
    errno.ENOMEM: "the machine gives the NIC too few PCI resources: enable SR-IOV and 'above 4G"
    " decoding' in the firmware setup, or boot with pci=realloc",
    errno.EINVAL: "use a value that the driver supports; the MTU of InfiniBand is at most 4092, or"
    " 2044 in a subnet with an MTU of 2048",
    errno.EIO: "see dmesg for the driver's error",
    errno.ENOSPC: "lower numVfs, or raise the limit in the NIC's firmware",
}
_OTHER_REMEDY: Final = "see dmesg for the driver's error; the agent tries again"


class Sysfs:
    """The node's /sys, mounted at ``root``, because a container's own /sys is read-only."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def device(self, address: str) -> Path:
        """The directory of a PCI device."""
        return self.root / DEVICES / address

    def read(self, path: Path) -> str:
        """A file's text; "" if it cannot be read."""
        try:
            return path.read_text("ascii").strip()
        except OSError:
            return ""

    def write(self, path: Path, text: str) -> None:
        """Write an attribute; a missing file is not created. Raises DatapathError."""
        try:
            # O_WRONLY: some files are write-only, and the agent may lack CAP_DAC_OVERRIDE.
            file = os.open(path, os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC)
            try:
                os.write(file, f"{text}\n".encode("ascii"))
            finally:
                os.close(file)
        except OSError as error:
            raise self._refused(f"write {text or 'an empty line'} to", path, error) from error

    def make_directory(self, path: Path) -> None:
        """Create a directory, unless it exists. Raises DatapathError."""
        try:
            path.mkdir(exist_ok=True)
        except OSError as error:
            raise self._refused("create", path, error) from error

    def _refused(self, verb: str, path: Path, error: OSError) -> DatapathError:
        shown = f"/sys/{path.relative_to(self.root)}"
        return DatapathError(
            f"cannot {verb} {shown}: {error.strerror}",
            subject=shown,
            remedy=_REMEDIES.get(error.errno or 0, _OTHER_REMEDY),
        )

    def driver(self, address: str) -> str:
        """A PCI device's driver, or ""."""
        symlink = self.device(address) / "driver"
        return symlink.resolve().name if symlink.exists() else ""

    def vf_address(self, address: str, number: int) -> str:
        """A virtual function's PCI address. Raises DatapathError."""
        symlink = self.device(address) / f"virtfn{number}"
        if not symlink.exists():
            raise DatapathError(
                f"{address} has no virtual function {number}", subject=address, remedy=_OTHER_REMEDY
            )
        return symlink.resolve().name

    def link(self, address: str) -> str:
        """The network link of a PCI device. Raises DatapathError if the device has no link."""
        net = self.device(address) / "net"
        name = min((path.name for path in net.iterdir()), default="") if net.is_dir() else ""
        if not name:
            raise DatapathError(
                f"{address} has no network link in the node's network namespace",
                subject=address,
                remedy="the agent tries again, because the driver may create the link later",
            )
        return name

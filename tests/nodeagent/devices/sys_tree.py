"""A simulated /sys tree with network cards, links, RDMA devices and IOMMU groups."""

from __future__ import annotations

from pathlib import Path


class SysTree:
    """Writes a /sys tree below ``root``."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for directory in ("class/net", "class/misc/rdma_cm", "class/infiniband", "bus/pci/devices"):
            (root / directory).mkdir(parents=True)

    def device(self, address: str, **files: str) -> Path:
        path = self.root / "devices" / address
        path.mkdir(parents=True)
        for name, text in files.items():
            (path / name).write_text(f"{text}\n")
        (self.root / "bus/pci/devices" / address).symlink_to(path)
        return path

    def link(self, name: str, device: Path | None, **files: str) -> None:
        """Add a link of a PCI device, or a virtual link if ``device`` is None."""
        path = self.root / "class/net" / name if device is None else device / "net" / name
        path.mkdir(parents=True)
        for file, text in files.items():
            (path / file).write_text(f"{text}\n")
        if device is not None:
            (path / "device").symlink_to(device)
            (self.root / "class/net" / name).symlink_to(path)

    def vf(self, physical: Path, number: int, address: str, driver: str, **files: str) -> Path:
        """Add a virtual function; ``driver`` "" means no driver."""
        path = self.device(address, **files)
        (physical / f"virtfn{number}").symlink_to(path)
        (path / "physfn").symlink_to(physical)
        if driver:
            self.bind(path, driver)
        return path

    def bind(self, device: Path, driver: str) -> None:
        target = self.root / "drivers" / driver
        target.mkdir(parents=True, exist_ok=True)
        (device / "driver").unlink(missing_ok=True)
        (device / "driver").symlink_to(target)

    def rdma(self, device: Path, number: int) -> None:
        """Add the RDMA device ``mlx5_<number>`` with its character devices."""
        names = {
            "infiniband": [f"mlx5_{number}"],
            "infiniband_verbs": [f"uverbs{number}"],
            "infiniband_mad": [f"umad{number}", f"issm{number}"],
        }
        for directory, entries in names.items():
            for entry in entries:
                (device / directory / entry).mkdir(parents=True)
        for directory, entries in names.items():
            for entry in entries:
                path = device / directory / entry
                (path / "device").symlink_to(device)
                (path / "ibdev").write_text(f"mlx5_{number}\n")
                self._link_in_class(directory, path)

    def soft_rdma(self, name: str, number: int, link: str) -> None:
        """Add a soft RoCE device over a link, with an active port."""
        path = self.root / "devices/virtual/infiniband" / name
        path.mkdir(parents=True)
        (path / "parent").write_text(f"{link}\n")
        self._link_in_class("infiniband", path)
        self.port(name, "4: ACTIVE")
        verbs = self.root / "devices/virtual/infiniband_verbs" / f"uverbs{number}"
        verbs.mkdir(parents=True)
        (verbs / "ibdev").write_text(f"{name}\n")
        self._link_in_class("infiniband_verbs", verbs)

    def port(self, name: str, state: str) -> None:
        """Set the state of an RDMA device's first port."""
        port = self.root / "class/infiniband" / name / "ports/1"
        port.mkdir(parents=True, exist_ok=True)
        (port / "state").write_text(f"{state}\n")

    def _link_in_class(self, kind: str, path: Path) -> None:
        directory = self.root / "class" / kind
        directory.mkdir(parents=True, exist_ok=True)
        (directory / path.name).symlink_to(path)

    def iommu_group(self, device: Path, number: int, name: str = "") -> None:
        group = self.root / "kernel/iommu_groups" / str(number)
        group.mkdir(parents=True, exist_ok=True)
        if name:
            (group / "name").write_text(f"{name}\n")
        (device / "iommu_group").symlink_to(group)

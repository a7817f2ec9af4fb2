"""Reads and writes ECN settings and traffic classes of RoCE, in /sys and in configfs.

``class/net/<link>/ecn`` and ``class/infiniband/<device>/tc`` are files of NVIDIA's DOCA-OFED.
``kernel/config/rdma_cm`` belongs to the RDMA connection manager (RDMA CM; see the kernel's
Documentation/ABI/testing/configfs-rdma_cm).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from core.domain.roce_qos.qos_model import PRIORITIES, UNSET, EcnSettings, RocePort
from core.domain.roce_qos.qos_plan import CNP_DSCP, CNP_PRIORITY, NOTIFICATION_POINT, REACTION_POINT
from nodeagent.sriov.sysfs import Sysfs
from nodeagent.sriov_master_addresses import is_representor, master_of

RDMA_CM: Final = "kernel/config/rdma_cm"
ROCE_V2: Final = "RoCE v2"

_ETHERNET: Final = "1"
"""ARPHRD_ETHER."""

_TRAFFIC_CLASS: Final = re.compile(r"Global tclass=(\d+)")


class QosFiles:
    """The files of one /sys tree. Reading never fails; writing raises DatapathError."""

    def __init__(self, sysfs: Sysfs) -> None:
        self._sysfs = sysfs

    def is_nic(self, link: str) -> bool:
        """Whether a link is Ethernet (not IPoIB), and not a representor of a virtual function."""
        directory = self._link(link)
        return self._sysfs.read(directory / "type") == _ETHERNET and not is_representor(directory)

    def bond(self, link: str) -> str:
        """The bond of a link, or the link itself if it is a bond; else ""."""
        directory = self._link(link)
        master = directory / "master"
        bond = master.resolve() if master.exists() else directory
        return bond.name if (bond / "bonding").is_dir() else ""

    def nics_of_bond(self, bond: str) -> list[str]:
        """The NICs of a bond."""
        return self._sysfs.read(self._link(bond) / "bonding/slaves").split()

    def pf(self, link: str) -> str:
        """If a link is a virtual function, the link of its physical function; else ""."""
        device = (self._link(link) / "device").resolve()
        return master_of(device.name, self._sysfs.root) or ""

    def ecn(self, link: str) -> EcnSettings | None:
        """The ECN settings of a link; None if the driver has no ECN files."""
        directory = self._link(link) / "ecn"
        if not directory.is_dir():
            return None
        cnp = directory / NOTIFICATION_POINT
        return EcnSettings(
            notification=self._enabled_priorities(cnp),
            reaction=self._enabled_priorities(directory / REACTION_POINT),
            cnp_dscp=self._number(cnp / CNP_DSCP),
            cnp_priority=self._number(cnp / CNP_PRIORITY),
        )

    def port(self, device: str, port: int) -> RocePort:
        """The traffic classes of a port. Creates no directory in configfs."""
        file = self._traffic_class(device, port)
        match = _TRAFFIC_CLASS.search(self._sysfs.read(file))
        traffic_class = UNSET if file.exists() else None
        if match:
            traffic_class = int(match[1])
        cm_traffic_class = self._number(self._cm_port(device, port) / "default_roce_tos")
        if cm_traffic_class is None and (self._sysfs.root / RDMA_CM).is_dir():
            cm_traffic_class = UNSET
        return RocePort(device, port, traffic_class, cm_traffic_class)

    def enable_ecn(self, link: str, point: str, priority: int) -> None:
        """Enable ECN for a priority. ``point``: NOTIFICATION_POINT or REACTION_POINT."""
        self._sysfs.write(self._link(link) / "ecn" / point / f"enable/{priority}", "1")

    def set_cnp(self, link: str, field: str, value: int) -> None:
        """Set CNP_DSCP or CNP_PRIORITY (``field``) of congestion notification packets."""
        self._sysfs.write(self._link(link) / "ecn" / NOTIFICATION_POINT / field, str(value))

    def set_traffic_class(self, device: str, port: int, value: int) -> None:
        """Set the traffic class of a port's queue pairs."""
        self._sysfs.write(self._traffic_class(device, port), str(value))

    def set_cm_traffic_class(self, device: str, port: int, value: int) -> None:
        """Set RoCE v2, and the traffic class of RDMA CM connections."""
        # The kernel adds the device's files to the new directory.
        self._sysfs.make_directory(self._sysfs.root / RDMA_CM / device)
        files = self._cm_port(device, port)
        if self._sysfs.read(files / "default_roce_mode") != ROCE_V2:
            self._sysfs.write(files / "default_roce_mode", ROCE_V2)
        self._sysfs.write(files / "default_roce_tos", str(value))

    def _enabled_priorities(self, point: Path) -> frozenset[int]:
        return frozenset(
            priority
            for priority in PRIORITIES
            if self._sysfs.read(point / f"enable/{priority}") == "1"
        )

    def _link(self, link: str) -> Path:
        return self._sysfs.root / "class/net" / link

    def _traffic_class(self, device: str, port: int) -> Path:
        return self._sysfs.root / "class/infiniband" / device / f"tc/{port}/traffic_class"

    def _cm_port(self, device: str, port: int) -> Path:
        return self._sysfs.root / RDMA_CM / device / "ports" / str(port)

    def _number(self, path: Path) -> int | None:
        text = self._sysfs.read(path)
        return int(text) if text.isdecimal() else None

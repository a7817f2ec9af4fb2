"""Writes /sys trees of machines with network cards, from public documentation.

Sources: the kernel's ABI documents (sysfs-class-net, sysfs-class-infiniband, sysfs-bus-pci), the
drivers' counters, and the PCI IDs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, NamedTuple

from tests.nodeagent.sriov.cards import TREES_FOLDER, Card

MLX5_COUNTERS: Final = (
    *("duplicate_request", "implied_nak_seq_err", "local_ack_timeout_err", "np_cnp_sent"),
    *("np_ecn_marked_roce_packets", "out_of_buffer", "out_of_sequence", "packet_seq_err"),
    *("rnr_nak_retry_err", "rp_cnp_handled", "rp_cnp_ignored", "rx_icrc_encapsulated"),
    *("rx_read_requests", "rx_write_requests"),
)
"""The files in the directory ``hw_counters`` of a port."""

IRDMA_COUNTERS: Final = ("ip4InOctets", "ip4OutOctets", "tcpRetransSegs", "RxECNMrkd", "cnpSent")

PRIORITIES: Final = range(8)
CNP_PRIORITY: Final = 6
"""Priority of congestion notification packets; their DSCP is 8 times this number."""


class CardKind(NamedTuple):
    """A kind of card. ``device``: the PCI device ID; ``rdma``: the prefix of RDMA device names."""

    vendor: str
    device: str
    driver: str
    rdma: str
    vfs_max: int
    counters: tuple[str, ...] = ()
    is_infiniband: bool = False
    has_ecn_files: bool = False


CONNECTX7: Final = CardKind(
    vendor="0x15b3",
    device="0x1021",
    driver="mlx5_core",
    rdma="mlx5_",
    vfs_max=16,
    counters=MLX5_COUNTERS,
    has_ecn_files=True,
)
CONNECTX6_INFINIBAND: Final = CardKind(
    vendor="0x15b3",
    device="0x101b",
    driver="mlx5_core",
    rdma="mlx5_",
    vfs_max=8,
    counters=MLX5_COUNTERS,
    is_infiniband=True,
)
E810: Final = CardKind(
    vendor="0x8086",
    device="0x1592",
    driver="ice",
    rdma="irdma",
    vfs_max=128,
    counters=IRDMA_COUNTERS,
)


class Machine:
    """Writes the tree of a machine below ``root``."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.next_number = 0
        for directory in ("class/net", "class/infiniband", "bus/pci/devices"):
            (root / directory).mkdir(parents=True)

    def card(self, kind: CardKind, name: str, state: str = "4: ACTIVE") -> None:
        """Add a card with one port, the link ``name`` and one RDMA device."""
        number, self.next_number = self.next_number, self.next_number + 1
        address = f"0000:{0x10 + number:02x}:00.0"
        device = self.root / "devices/pci0000:00" / address
        files = {
            "vendor": kind.vendor,
            "device": kind.device,
            "numa_node": str(number // 4),
            "sriov_totalvfs": str(kind.vfs_max),
            "sriov_numvfs": "0",
        }
        self._write_files(device, files)
        self._symlink(device / "driver", self.root / "bus/pci/drivers" / kind.driver)
        self._symlink(self.root / "bus/pci/devices" / address, device)
        guid = f"{0x02C9_0300_0000_0000 + (number << 8):016x}"
        self._link(device, kind, name, guid)
        self._rdma(device, kind, f"{kind.rdma}{number}", number, guid, state)

    def virtual_link(self, name: str, **files: str) -> Path:
        """Add a link without a PCI device."""
        directory = self.root / "devices/virtual/net" / name
        self._write_files(
            directory, {"type": "1", "mtu": "1500", "address": "02:00:00:00:00:01"} | files
        )
        self._symlink(self.root / "class/net" / name, directory)
        return directory

    def bond(self, name: str, *members: str) -> None:
        bond = self.virtual_link(name)
        self._write_files(bond / "bonding", {"slaves": " ".join(members)})
        for member in members:
            self._symlink(self.root / "class/net" / member / "master", bond)

    def _link(self, device: Path, kind: CardKind, name: str, guid: str) -> None:
        octets = [guid[start : start + 2] for start in range(0, len(guid), 2)]
        address = ":".join(octets[2:])
        if kind.is_infiniband:
            address = ":".join(["00", "00", "10", "49", "fe", "80", *["00"] * 6, *octets])
        files = {
            "address": address,
            "type": "32" if kind.is_infiniband else "1",
            "mtu": "4092" if kind.is_infiniband else "9000",
            "carrier": "1",
            "dev_port": "0",
        }
        directory = device / "net" / name
        self._write_files(directory, files)
        if kind.has_ecn_files:
            enabled = {str(priority): str(int(priority == 5)) for priority in PRIORITIES}
            for point in ("roce_np", "roce_rp"):
                self._write_files(directory / "ecn" / point / "enable", enabled)
            cnp = {"cnp_dscp": str(8 * CNP_PRIORITY), "cnp_802p_prio": str(CNP_PRIORITY)}
            self._write_files(directory / "ecn/roce_np", cnp)
        self._symlink(directory / "device", device)
        self._symlink(self.root / "class/net" / name, directory)

    def _rdma(
        self, device: Path, kind: CardKind, name: str, number: int, guid: str, state: str
    ) -> None:
        words = [guid[start : start + 4] for start in range(0, len(guid), 4)]
        layer = "InfiniBand" if kind.is_infiniband else "Ethernet"
        directory = device / "infiniband" / name
        self._write_files(directory, {"node_guid": ":".join(words)})
        self._write_files(directory / "ports/1", {"state": state, "link_layer": layer})
        self._write_files(
            directory / "ports/1/gids", {"0": ":".join(["fe80", *["0000"] * 3, *words])}
        )
        counters = {counter: str(index * index) for index, counter in enumerate(kind.counters)}
        self._write_files(directory / "ports/1/hw_counters", counters | {"lifespan": "10"})
        self._symlink(directory / "device", device)
        self._symlink(self.root / "class/infiniband" / name, directory)
        nodes = (("verbs", f"uverbs{number}"), ("mad", f"umad{number}"), ("mad", f"issm{number}"))
        for suffix, node in nodes:
            directory = device / f"infiniband_{suffix}" / node
            self._write_files(directory, {"ibdev": name})
            self._symlink(self.root / f"class/infiniband_{suffix}" / node, directory)

    @staticmethod
    def _write_files(directory: Path, files: Mapping[str, str]) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (directory / name).write_text(f"{text}\n")

    @staticmethod
    def _symlink(path: Path, target: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        target.mkdir(parents=True, exist_ok=True)
        path.symlink_to(target)


def training_node(machine: Machine) -> None:
    for number in range(8):
        machine.card(CONNECTX7, f"rail{number}", "4: ACTIVE" if number else "1: DOWN")
    machine.card(E810, "ens1f0")
    machine.card(E810, "ens1f1")
    machine.bond("bond0", "ens1f0", "ens1f1")
    machine.virtual_link("lo", type="772")


def infiniband_node(machine: Machine) -> None:
    for number in range(4):
        machine.card(CONNECTX6_INFINIBAND, f"ibs{number}")
    machine.card(CONNECTX7._replace(has_ecn_files=False), "ens2f0")


def _card_writer(name: str) -> Callable[[Path], None]:
    def write(root: Path) -> None:
        Card(root, name)

    return write


def _machine_writer(write: Callable[[Machine], None]) -> Callable[[Path], None]:
    return lambda root: write(Machine(root))


MACHINE_WRITERS: Final[Mapping[str, Callable[[Path], None]]] = {
    "training-node": _machine_writer(training_node),
    "infiniband-node": _machine_writer(infiniband_node),
    **{path.stem: _card_writer(path.stem) for path in sorted(TREES_FOLDER.glob("*.txt"))},
}
"""Name -> a function that writes the tree of a machine or card."""

"""Network cards as trees of /sys, with a simulated kernel that executes writes to the files.

The files work as in the kernel's document sysfs-bus-pci. When a network driver binds to a virtual
function, a link appears, and an RDMA device if the physical function has RDMA.
"""

from __future__ import annotations

import shutil
from collections.abc import Collection, Mapping
from pathlib import Path

from core.domain.sriov.guid_file import GuidFile
from core.domain.sriov.model import SWITCHDEV, VFIO, PhysicalFunction
from core.domain.sriov.vf_plan import Action
from core.errors import DatapathError
from nodeagent.devices.physical_functions import physical_functions
from nodeagent.sriov.node_hardware import with_netlink_facts, with_pods
from nodeagent.sriov.sysfs import Sysfs
from nodeagent.sriov.vf_configurator import VfConfigurator
from nodeagent.sriov.vf_links import VfSettings
from nodeagent.sriov_master_addresses import is_representor

TREES_FOLDER = Path(__file__).parent / "trees"
NETWORK_DRIVERS = {"0x15b3": "mlx5_core", "0x8086": "iavf"}
RANDOM_MAC = "5e:00:00:00:00:01"
"""The MAC address of a virtual function until an address is set."""

RDMA_CLASSES = {
    "infiniband": ["mlx5_{}"],
    "infiniband_verbs": ["uverbs{}"],
    "infiniband_mad": ["issm{}", "umad{}"],
}
"""Class in /sys -> names of an RDMA device's entries."""

_CARD_LINE_START = "card = "


class Card(Sysfs):
    """A card in a tree of /sys, and a fake of the protocol ``VfLinks``.

    A tree that another process has written to ``root`` is used unchanged.
    """

    def __init__(self, root: Path, tree: str) -> None:
        super().__init__(root)
        self._tree = (TREES_FOLDER / f"{tree}.txt").read_text()
        self.macs: dict[int, str] = {}
        """Number of a virtual function -> MAC address or GUID."""
        self.settings_by_vf: dict[int, VfSettings] = {}
        self.links_up: list[str] = []
        self.modes: dict[str, str] = {}
        """PCI address -> eswitch mode."""
        self.writes: list[str] = []
        """File name and text of each write, such as ``sriov_numvfs 2``."""
        self.path = root / _card_path(self._tree)
        if not root.exists():
            self.boot()

    def boot(self) -> None:
        """Write the tree without virtual functions, as after a reboot."""
        shutil.rmtree(self.root, ignore_errors=True)
        self.macs.clear()
        self.settings_by_vf.clear()
        card = _card_path(self._tree)
        for line in self._tree.splitlines():
            if line.startswith(("#", _CARD_LINE_START)):
                continue
            text = line.format(card=card)
            path, arrow, target = text.partition(" -> ")
            if arrow:
                self._symlink(self.root / path, self.root / target)
            else:
                path, _, content = text.partition(" =")
                self._write_file(self.root / path, content.strip())

    def boot_in_slot(self, address: str) -> None:
        self._tree = self._tree.replace(self.path.name, address)
        self.path = self.root / _card_path(self._tree)
        self.boot()

    def nics(self, pods: Mapping[str, str] | None = None) -> tuple[PhysicalFunction, ...]:
        """The NICs that the agent reads; ``pods``: PCI address -> Pod."""
        return with_pods(with_netlink_facts(physical_functions((), self.root), self), pods or {})

    # ------------------------------------------------------------------------------ the kernel

    def write(self, path: Path, text: str) -> None:
        super().write(path, text)
        self.writes.append(f"{path.name} {text}".strip())
        if path.name == "sriov_numvfs":
            self._make_vfs(int(text))
        elif path.name == "unbind":
            self._unbind(self.device(text).resolve())
        elif path.name == "drivers_probe":
            self._probe(self.device(text).resolve())

    def _make_vfs(self, count: int) -> None:
        present = sorted(self.path.glob("virtfn*"))
        if count and present:
            raise DatapathError("cannot write to sriov_numvfs: Device or resource busy")
        for link in present:
            device = link.resolve()
            self._unbind(device)
            link.unlink()
            (self.root / "bus/pci/devices" / device.name).unlink()
            shutil.rmtree(device)
        offset, stride = (int(self.read(self.path / f"sriov_{n}")) for n in ("offset", "stride"))
        bus, _, _ = self.path.name.rpartition(":")
        self._make_representors(count if self.modes.get(self.path.name) == SWITCHDEV else 0)
        self.settings_by_vf = {
            number: VfSettings("", trust=False, spoof_check=True) for number in range(count)
        }
        for number in range(count):
            slot, function = divmod(offset + stride * number, 8)
            device = self.path.with_name(f"{bus}:{slot:02x}.{function}")
            self._write_file(device / "driver_override", "(null)")
            self._write_file(device / "numa_node", self.read(self.path / "numa_node"))
            self._symlink(self.path / f"virtfn{number}", device)
            self._symlink(device / "physfn", self.path)
            self._symlink(self.root / "bus/pci/devices" / device.name, device)
            self._probe(device)

    def _make_representors(self, count: int) -> None:
        """Replace the representors.

        Their names sort before the port, so code that takes the first link fails.
        """
        for link in filter(is_representor, (self.path / "net").iterdir()):
            (self.root / "class/net" / link.name).unlink()
            shutil.rmtree(link)
        (port,) = (self.path / "net").iterdir()
        for number in range(count):
            link = port.with_name(f"enp94s0f0r{number}")
            for file in ("phys_switch_id", "type", "mtu"):
                self._write_file(link / file, self.read(port / file))
            self._write_file(link / "phys_port_name", f"pf0vf{number}")
            self._symlink(link / "device", self.path)
            self._symlink(self.root / "class/net" / link.name, link)

    def _probe(self, device: Path) -> None:
        driver_override = self.read(device / "driver_override").replace("(null)", "")
        if not driver_override and self.read(self.path / "sriov_drivers_autoprobe") == "0":
            return
        driver = driver_override or NETWORK_DRIVERS[self.read(self.path / "vendor")]
        if (device / "driver").exists() or not (self.root / "bus/pci/drivers" / driver).exists():
            return
        self._symlink(device / "driver", self.root / "bus/pci/drivers" / driver)
        if driver != VFIO:
            self._make_network_link(device)

    def _make_network_link(self, device: Path) -> None:
        (link,) = (entry for entry in self.path.glob("virtfn*") if entry.resolve() == device)
        number = int(link.name.removeprefix("virtfn"))
        (nic,) = (link for link in (self.path / "net").iterdir() if not is_representor(link))
        mac = self.macs.get(number, RANDOM_MAC)
        if self.read(nic / "type") == "32":
            mac = f"00:00:10:49:fe:80:00:00:00:00:00:00:{mac}"
        name = f"{nic.name}v{number}"
        for file, content in (("address", mac), ("mtu", "1500"), ("type", self.read(nic / "type"))):
            self._write_file(device / "net" / name / file, content)
        self._symlink(device / "net" / name / "device", device)
        self._symlink(self.root / "class/net" / name, device / "net" / name)
        if (self.path / "infiniband_verbs").exists():
            self._make_rdma_device(device, number + 1)

    def _make_rdma_device(self, device: Path, number: int) -> None:
        for kind, names in RDMA_CLASSES.items():
            for name in (name.format(number) for name in names):
                self._write_file(device / kind / name / "ibdev", f"mlx5_{number}")
                self._symlink(device / kind / name / "device", device)
                self._symlink(self.root / "class" / kind / name, device / kind / name)

    def _unbind(self, device: Path) -> None:
        (device / "driver").unlink(missing_ok=True)
        for kind in ("net", *RDMA_CLASSES):
            for entry in (device / kind).glob("*"):
                (self.root / "class" / kind / entry.name).unlink(missing_ok=True)
            shutil.rmtree(device / kind, ignore_errors=True)

    # -------------------------------------------------------- the methods of ``VfLinks`` (netlink)

    def set_mac(self, link: str, vf: int, mac: bytes) -> None:
        self.macs[vf] = mac.hex(":")

    def set_guid(self, link: str, vf: int, guid: bytes) -> None:
        self.macs[vf] = guid.hex(":")

    def set_trust(self, link: str, vf: int, *, trust: bool) -> None:
        self.settings_by_vf[vf] = self.settings_by_vf[vf]._replace(trust=trust)

    def set_spoof_check(self, link: str, vf: int, *, spoof_check: bool) -> None:
        self.settings_by_vf[vf] = self.settings_by_vf[vf]._replace(spoof_check=spoof_check)

    def vf_settings(self, link: str) -> Mapping[int, VfSettings]:
        is_infiniband = self.read(self.root / "class/net" / link / "type") == "32"
        guids = self.macs if is_infiniband else {}
        return {
            vf: settings._replace(guid=guids.get(vf, ""))
            for vf, settings in self.settings_by_vf.items()
        }

    def set_link_up(self, link: str) -> None:
        self.links_up.append(link)

    def eswitch_modes(self, addresses: Collection[str]) -> Mapping[str, str]:
        return self.modes

    def set_eswitch_mode(self, address: str, mode: str) -> None:
        self.modes[address] = mode

    # ----------------------------------------------------------------------------------- files

    @staticmethod
    def _write_file(path: Path, content: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{content}\n")

    @staticmethod
    def _symlink(path: Path, target: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        target.mkdir(parents=True, exist_ok=True)
        path.symlink_to(target)


def _card_path(tree: str) -> str:
    return next(
        line.removeprefix(_CARD_LINE_START)
        for line in tree.splitlines()
        if line.startswith(_CARD_LINE_START)
    )


class CardHardware:
    """A fake of the protocol ``NicHardware`` with one card."""

    def __init__(self, card: Card) -> None:
        self.card = card
        self.pods: dict[str, str] | None = {}
        """PCI address -> Pod; None while kubelet does not answer."""
        self.pods_known = True
        """Whether kubelet has answered at least once."""
        self.nic_reads = 0
        self.guids = GuidFile()
        self._configurator = VfConfigurator(sysfs=card, links=card)

    async def nics(self, own_addresses: Collection[str]) -> tuple[PhysicalFunction, ...]:
        self.nic_reads += 1
        nics = with_netlink_facts(physical_functions(own_addresses, self.card.root), self.card)
        return with_pods(nics, self.pods)

    async def guid_file(self) -> GuidFile:
        return self.guids

    async def carry_out(self, action: Action) -> None:
        self._configurator.carry_out(action)

    def pods_of(self, nic: PhysicalFunction) -> list[str]:
        pods = self.pods or {}
        return [pods[vf.address] for vf in nic.vfs if vf.address in pods]

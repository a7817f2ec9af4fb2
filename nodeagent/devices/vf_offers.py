"""Virtual functions as extended resources: one for each resourceName of the node's policies.

kubelet's ids are PCI addresses, by which Multus finds a Pod's device (``deviceID``). A virtual
function is healthy while its driver is the one of its policy, its NIC's link carries traffic, and
its RDMA device is there, if it shall have one. One that is in a Pod stays on the list. What cannot
be read withdraws nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple, Protocol

from core.domain.device_allocation import Device, DeviceAllocation, DeviceFile, Offer, pci_variable
from core.domain.sriov.model import VFIO
from core.domain.sriov.resources import VfDevice
from nodeagent.devices.device_info import DeviceInfoFiles
from nodeagent.devices.pci_files import PciFiles

_FILE_KINDS: Final = ("rdma_cm", "uverbs", "umad", "issm")

VfDevices = Callable[[], Mapping[str, tuple[VfDevice, ...]] | None]
"""The resourceName of policies -> virtual functions; None: not known yet."""


class PolicyDevices(Protocol):
    """The virtual functions of a node's policies, as they change."""

    @property
    def devices(self) -> Mapping[str, tuple[VfDevice, ...]] | None:
        """See ``VfDevices``."""
        ...

    def listen(self, listener: Callable[[], None], /) -> None:
        """Call the listener when ``devices`` has changed."""
        ...


Info = dict[str, dict[str, str]]


class VfOffer(NamedTuple):
    """The virtual functions of one resource."""

    resource: str
    vfs: tuple[VfDevice, ...]
    pci: PciFiles = PciFiles()
    info_files: DeviceInfoFiles = DeviceInfoFiles()

    @property
    def size(self) -> int:
        """The number of virtual functions."""
        return len(self.vfs)

    def devices(self) -> list[Device]:
        """Each virtual function."""
        return [_listed(vf) for vf in self.vfs]

    def has(self, device: str, /) -> bool:
        """Whether one has this PCI address."""
        return any(vf.address == device for vf in self.vfs)

    def allocation(self, devices: Sequence[str], /) -> DeviceAllocation:
        """The addresses and files of these devices. Raises OSError."""
        listed = {vf.address: vf for vf in self.vfs}
        files: dict[DeviceFile, None] = {}
        infos: dict[str, Info] = {}
        for address in devices:
            infos[address] = self._describe(listed[address], files)
        name = pci_variable(self.resource)
        variables = {name: ",".join(devices), f"{name}_INFO": json.dumps(infos)}
        return DeviceAllocation(variables, tuple(files))

    def _describe(self, vf: VfDevice, files: dict[DeviceFile, None]) -> Info:
        """What the variables say of a device; adds its files."""
        address, rdma = vf.address, ""
        info: Info = {"generic": {"deviceID": address}}
        if vf.device_type == VFIO:
            control, group = vfio = self.pci.vfio_files(address)
            files |= dict.fromkeys(vfio)
            info["vfio"] = {"mount": control.path, "dev-mount": group.path}
        if vf.is_rdma:
            rdma = self.pci.rdma_name(address)
            verbs = self.pci.rdma_files(address)
            files |= dict.fromkeys(verbs)
            info["rdma"] = {"rdma_dev": rdma} | {_kind(file): file.path for file in verbs}
        self.info_files.write(self.resource, address, vf.pf_address, rdma)
        return info


class VfSource(NamedTuple):
    """Reads the offers of a node's virtual functions. By resourceName."""

    vf_devices: VfDevices
    prefix: str
    pci: PciFiles = PciFiles()
    info_files: DeviceInfoFiles = DeviceInfoFiles()

    @property
    def name(self) -> str:
        """What messages call it."""
        return "the virtual functions of this node"

    async def read(self) -> dict[str, Offer] | None:
        """Resource -> its virtual functions; None while they are not known."""
        resources = self.vf_devices()
        if resources is None:
            return None
        offers: dict[str, Offer] = {}
        for suffix, devices in resources.items():
            name = f"{self.prefix}/{suffix}"
            offers[name] = VfOffer(name, tuple(devices), self.pci, self.info_files)
        return offers


def _listed(vf: VfDevice) -> Device:
    is_here = bool(vf.link)  # in the node's namespace, and not in a Pod's
    lacks_rdma = vf.is_rdma and is_here and not vf.rdma
    is_healthy = vf.has_carrier and vf.is_ready and not lacks_rdma
    is_near_nothing = vf.exclude_topology or vf.numa_node < 0
    return Device(vf.address, is_healthy, None if is_near_nothing else vf.numa_node)


def _kind(file: DeviceFile) -> str:
    """What the variables call a file: uverbs for /dev/infiniband/uverbs3."""
    name = file.path.rpartition("/")[2]
    return next(kind for kind in _FILE_KINDS if name.startswith(kind))

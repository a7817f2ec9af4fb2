"""Virtual functions as extended resources: one resource for each resourceName of the policies.

kubelet's device IDs are PCI addresses, by which Multus finds a Pod's device (``deviceID``). A
virtual function is healthy if it has the driver of its policy and its NIC has a carrier. If the
policy requires RDMA, a virtual function whose link is in the node's network namespace also needs an
RDMA device. While a Pod has the link, the RDMA device may be in the Pod too, and is not required.

The lists include the virtual functions that Pods use (``core.domain.sriov.resources``). While the
virtual functions are not known, ``VfSource.read`` returns None, and ``DeviceAdvertiser`` keeps the
last lists.
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

VfsByResource = Mapping[str, tuple[VfDevice, ...]]
"""The virtual functions of a node by the resourceName of their policies."""


class VfInventory(Protocol):
    """The current virtual functions of a node's policies, and notifications of changes."""

    @property
    def vfs_by_resource(self) -> VfsByResource | None:
        """The virtual functions by resourceName; None while they are not known."""
        ...

    def listen(self, listener: Callable[[], None], /) -> None:
        """Call the listener when ``vfs_by_resource`` has changed."""
        ...


Info = dict[str, dict[str, str]]
"""The description of one device in the variable ``..._INFO``: fields by group, such as "rdma"."""


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
        """Each virtual function as a device for kubelet."""
        return [_listed(vf) for vf in self.vfs]

    def has(self, device: str, /) -> bool:
        """Whether one of the virtual functions has this PCI address."""
        return any(vf.address == device for vf in self.vfs)

    def allocation(self, devices: Sequence[str], /) -> DeviceAllocation:
        """The variables and device files of a container with these devices. Raises OSError.

        Also writes the information file of each device.
        """
        listed = {vf.address: vf for vf in self.vfs}
        device_files: dict[DeviceFile, None] = {}
        infos: dict[str, Info] = {}
        for address in devices:
            infos[address] = self._describe(listed[address], device_files)
        name = pci_variable(self.resource)
        variables = {name: ",".join(devices), f"{name}_INFO": json.dumps(infos)}
        return DeviceAllocation(variables, tuple(device_files))

    def _describe(self, vf: VfDevice, device_files: dict[DeviceFile, None]) -> Info:
        """The description of a device for the variable ``..._INFO``.

        Adds the character devices to ``device_files``, and writes the information file for Multus.
        """
        address, rdma = vf.address, ""
        info: Info = {"generic": {"deviceID": address}}
        if vf.device_type == VFIO:
            control, group = self.pci.vfio_files(address)
            device_files |= dict.fromkeys((control, group))
            info["vfio"] = {"mount": control.path, "dev-mount": group.path}
        if vf.is_rdma:
            rdma = self.pci.rdma_name(address)
            verbs = self.pci.rdma_files(address)
            device_files |= dict.fromkeys(verbs)
            info["rdma"] = {"rdma_dev": rdma} | {_kind(file): file.path for file in verbs}
        self.info_files.write(self.resource, address, vf.pf_address, rdma)
        return info


class VfSource(NamedTuple):
    """Reads the offers of a node's virtual functions."""

    read_vfs: Callable[[], VfsByResource | None]
    prefix: str
    pci: PciFiles = PciFiles()
    info_files: DeviceInfoFiles = DeviceInfoFiles()

    @property
    def name(self) -> str:
        """The name of this source in log messages."""
        return "the virtual functions of this node"

    async def read(self) -> dict[str, Offer] | None:
        """Virtual functions by resource; None while they are not known."""
        resources = self.read_vfs()
        if resources is None:
            return None
        offers: dict[str, Offer] = {}
        for suffix, vfs in resources.items():
            name = f"{self.prefix}/{suffix}"
            offers[name] = VfOffer(name, vfs, self.pci, self.info_files)
        return offers


def _listed(vf: VfDevice) -> Device:
    is_on_node = bool(vf.link)  # its link is in the node's namespace, and not in a Pod's
    lacks_rdma = vf.is_rdma and is_on_node and not vf.rdma
    is_healthy = vf.has_carrier and vf.is_ready and not lacks_rdma
    has_topology = not vf.exclude_topology and vf.numa_node >= 0
    return Device(vf.address, is_healthy, vf.numa_node if has_topology else None)


def _kind(file: DeviceFile) -> str:
    """The key of a file in the variables, such as uverbs for /dev/infiniband/uverbs3."""
    name = file.path.rpartition("/")[2]
    return next(kind for kind in _FILE_KINDS if name.startswith(kind))

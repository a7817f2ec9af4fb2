"""Offers virtual functions as extended resources: one resource per resourceName of the policies.

The device IDs are PCI addresses (``deviceID`` of Multus). Virtual functions that Pods use are
offered too. A virtual function is healthy if it has the driver of its policy and the RDMA device
that its policy requires, and its NIC has a carrier.
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
"""Keys are resourceNames."""


class VfInventory(Protocol):
    """The virtual functions that a node's policies select."""

    @property
    def vfs_by_resource(self) -> VfsByResource | None:
        """None while the virtual functions are not known."""
        ...

    def listen(self, listener: Callable[[], None], /) -> None:
        """Call the listener when ``vfs_by_resource`` has changed."""
        ...


VfInfo = dict[str, dict[str, str]]
"""A virtual function in the variable ``..._INFO``: group (such as "rdma") -> field -> value."""


class VfOffer(NamedTuple):
    """The virtual functions of one resource."""

    resource: str
    vfs: tuple[VfDevice, ...]
    pci: PciFiles = PciFiles()
    info_files: DeviceInfoFiles = DeviceInfoFiles()

    @property
    def size(self) -> int:
        return len(self.vfs)

    def devices(self) -> list[Device]:
        return [_kubelet_device(vf) for vf in self.vfs]

    def has(self, device: str, /) -> bool:
        return any(vf.address == device for vf in self.vfs)

    def allocation(self, devices: Sequence[str], /) -> DeviceAllocation:
        """The variables and files of a container. Writes the information files for Multus.

        Raises OSError.
        """
        vfs_by_address = {vf.address: vf for vf in self.vfs}
        device_files: dict[DeviceFile, None] = {}
        infos: dict[str, VfInfo] = {}
        for address in devices:
            infos[address] = self._info_of(vfs_by_address[address], device_files)
        name = pci_variable(self.resource)
        variables = {name: ",".join(devices), f"{name}_INFO": json.dumps(infos)}
        return DeviceAllocation(variables, tuple(device_files))

    def _info_of(self, vf: VfDevice, device_files: dict[DeviceFile, None]) -> VfInfo:
        """The info of a virtual function. Writes its information file.

        Adds its character devices to ``device_files``.
        """
        address, rdma = vf.address, ""
        info: VfInfo = {"generic": {"deviceID": address}}
        if vf.device_type == VFIO:
            control, group = self.pci.vfio_files(address)
            device_files |= dict.fromkeys((control, group))
            info["vfio"] = {"mount": control.path, "dev-mount": group.path}
        if vf.is_rdma:
            rdma = self.pci.rdma_name(address)
            rdma_files = self.pci.rdma_files(address)
            device_files |= dict.fromkeys(rdma_files)
            info["rdma"] = {"rdma_dev": rdma} | {_kind(file): file.path for file in rdma_files}
        self.info_files.write(self.resource, address, vf.pf_address, rdma)
        return info


class VfSource(NamedTuple):
    """The source of a node's virtual functions."""

    read_vfs: Callable[[], VfsByResource | None]
    prefix: str
    pci: PciFiles = PciFiles()
    info_files: DeviceInfoFiles = DeviceInfoFiles()

    @property
    def name(self) -> str:
        return "the virtual functions of this node"

    async def read(self) -> dict[str, Offer] | None:
        """None while the virtual functions are not known."""
        resources = self.read_vfs()
        if resources is None:
            return None
        offers: dict[str, Offer] = {}
        for suffix, vfs in resources.items():
            name = f"{self.prefix}/{suffix}"
            offers[name] = VfOffer(name, vfs, self.pci, self.info_files)
        return offers


def _kubelet_device(vf: VfDevice) -> Device:
    # A link without a name is in a Pod. The RDMA device may be in the Pod too.
    is_on_node = bool(vf.link)
    lacks_rdma = vf.is_rdma and is_on_node and not vf.rdma
    is_healthy = vf.has_carrier and vf.is_ready and not lacks_rdma
    has_topology = not vf.exclude_topology and vf.numa_node >= 0
    return Device(vf.address, is_healthy, vf.numa_node if has_topology else None)


def _kind(file: DeviceFile) -> str:
    """The field name of a file in ``..._INFO``, such as uverbs."""
    name = file.path.rpartition("/")[2]
    return next(kind for kind in _FILE_KINDS if name.startswith(kind))

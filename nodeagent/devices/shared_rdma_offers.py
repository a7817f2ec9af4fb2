"""Offers shared RDMA devices as extended resources. The chart's configuration file has the rules.

A container with a share gets the files of all RDMA devices that the resource's rule selects. Shares
are healthy while a port of a selected device is active. The configuration file is read each time;
while the file is invalid, earlier shares stay advertised.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from errno import EINVAL
from pathlib import Path
from typing import Final, NamedTuple

from core.domain.device_allocation import Device, DeviceAllocation, Offer
from core.domain.shared_rdma import HostRdmaDevice, SharedRdmaRule, chosen_devices
from core.domain.slots import SlotResource
from core.errors import BadInput
from core.settings.shared_rdma import CONFIG_BYTES_MAX, shared_rdma_rules
from nodeagent.devices.pci_files import RDMA_CLASSES, rdma_character_devices, read_text
from nodeagent.sriov_master_addresses import SYSFS

DEVICES_MAX: Final = 1_024
"""RDMA devices of a node; further devices are ignored."""

_ACTIVE: Final = "4: ACTIVE"
_LINK_TYPES: Final = {"1": "ether", "32": "infiniband"}  # include/uapi/linux/if_arp.h


class SharedRdmaOffer(NamedTuple):
    """The shares of one resource. ``rdma_names``: the RDMA devices that its rule selects."""

    shares: SlotResource
    rdma_names: tuple[str, ...]
    is_healthy: bool
    sysfs: Path = SYSFS

    @property
    def size(self) -> int:
        return self.shares.slots

    def devices(self) -> list[Device]:
        return [Device(name, self.is_healthy) for name in self.shares.ids()]

    def has(self, device: str, /) -> bool:
        return self.shares.has(device)

    def allocation(self, _: Sequence[str], /) -> DeviceAllocation:
        """The files of all selected RDMA devices. Raises OSError."""
        file_names = [
            entry.name
            for kind in RDMA_CLASSES
            for entry in _entries(self.sysfs / "class" / kind)
            if read_text(entry / "ibdev") in self.rdma_names
        ]
        return DeviceAllocation(files=rdma_character_devices(self.sysfs, file_names))


class SharedRdmaSource(NamedTuple):
    """The source of a node's shared RDMA devices."""

    config: Path
    sysfs: Path = SYSFS

    @property
    def name(self) -> str:
        return "the shared RDMA devices of this node"

    async def read(self) -> dict[str, Offer] | None:
        """Shares by resource; zero shares if this node lacks the devices. Raises OSError."""
        return await asyncio.to_thread(self._read)

    def _read(self) -> dict[str, Offer]:
        with self.config.open("rb") as file:
            text = file.read(CONFIG_BYTES_MAX + 1)
        try:
            rules = shared_rdma_rules(text)
        except BadInput as error:
            raise OSError(EINVAL, f"{error.subject}: {error}", str(self.config)) from error
        devices = host_rdma_devices(self.sysfs)
        return {rule.resource: self._offer(rule, devices) for rule in rules}

    def _offer(self, rule: SharedRdmaRule, devices: Sequence[HostRdmaDevice]) -> SharedRdmaOffer:
        selected_devices = list(chosen_devices(rule, devices))
        shares = SlotResource(
            rule.resource.rpartition("/")[2], rule.slots if selected_devices else 0
        )
        is_healthy = any(device.is_active for device in selected_devices)
        rdma_names = tuple(device.name for device in selected_devices)
        return SharedRdmaOffer(shares, rdma_names, is_healthy, self.sysfs)


def host_rdma_devices(sysfs: Path = SYSFS) -> tuple[HostRdmaDevice, ...]:
    """Every RDMA device of the node's namespace, ordered by name. Raises OSError."""
    entries = list(_entries(sysfs / "class/infiniband"))[:DEVICES_MAX]
    return tuple(_device(entry, sysfs) for entry in entries)


def _device(entry: Path, sysfs: Path) -> HostRdmaDevice:
    pci = entry / "device"
    driver = pci / "driver"
    links = tuple(link.name for link in _entries(pci / "net")) or _software_links(entry)
    link_types = (read_text(sysfs / "class/net" / link / "type") for link in links)
    ports = _entries(entry / "ports")
    return HostRdmaDevice(
        name=entry.name,
        vendor=read_text(pci / "vendor").removeprefix("0x").lower(),
        device=read_text(pci / "device").removeprefix("0x").lower(),
        driver=driver.resolve().name if driver.exists() else "",
        links=links,
        link_type=_LINK_TYPES.get(next(link_types, ""), ""),
        is_active=any(read_text(port / "state") == _ACTIVE for port in ports),
    )


def _software_links(entry: Path) -> tuple[str, ...]:
    """The link of an RDMA device without hardware (soft RoCE)."""
    link = read_text(entry / "parent")
    return (link,) if link else ()


def _entries(directory: Path) -> Iterator[Path]:
    if directory.is_dir():
        yield from sorted(directory.iterdir())

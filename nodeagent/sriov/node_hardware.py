"""Reads and changes the NICs of this node through /sys and netlink.

Only kubelet knows the Pods of virtual functions with vfio-pci. While kubelet does not answer, these
virtual functions count as used.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from core.domain.sriov.guid_file import (
    GUID_FILE,
    GUID_FILE_BYTES_MAX,
    GuidFile,
    parse_guid_file,
)
from core.domain.sriov.model import (
    LEGACY,
    VFIO,
    PhysicalFunction,
    VirtualFunction,
)
from core.domain.sriov.vf_plan import Action
from core.settings.sriov import SriovSettings
from nodeagent.devices.physical_functions import physical_functions, uplinks
from nodeagent.devices.pod_resources import pods_by_device
from nodeagent.netlink.namespaces import NetnsExecutor
from nodeagent.sriov.sysfs import Sysfs
from nodeagent.sriov.vf_configurator import VfConfigurator
from nodeagent.sriov.vf_links import KernelVfLinks, VfLinks, VfSettings

HTTPS_PORT: Final = 443


class NodeHardware:
    """Implements ``NicHardware``. ``server``: the API server's URL, or ""."""

    def __init__(
        self,
        settings: SriovSettings,
        sysfs: Sysfs,
        executor: NetnsExecutor,
        server: str,
        guid_path: Path = Path(GUID_FILE),
    ) -> None:
        self._settings = settings
        self._sysfs = sysfs
        self._executor = executor
        self._server = server
        self._guid_path = guid_path
        self._links = KernelVfLinks(executor)
        self._configurator = VfConfigurator(sysfs, self._links)
        self._pods: Mapping[str, str] | None = None

    async def nics(self, own_addresses: Collection[str]) -> tuple[PhysicalFunction, ...]:
        """The NICs that can have virtual functions. Raises DatapathError, OSError."""
        pods = await pods_by_device(self._settings.kubelet)
        nics = await asyncio.to_thread(self._read, own_addresses)
        if pods is not None:
            self._pods = pods
        return with_pods(nics, pods)

    @property
    def pods_known(self) -> bool:
        """Whether kubelet has answered at least once."""
        return self._pods is not None

    async def guid_file(self) -> GuidFile:
        """The administrator's GUIDs."""
        return await asyncio.to_thread(read_guid_file, self._guid_path)

    async def carry_out(self, action: Action) -> None:
        """Carry out one action. Raises DatapathError."""
        await asyncio.to_thread(self._configurator.carry_out, action)

    def pods_of(self, nic: PhysicalFunction) -> list[str]:
        """Pods that have virtual functions of a NIC."""
        pods = self._pods or {}
        return [pods[vf.address] for vf in nic.vfs if vf.address in pods]

    def _read(self, own_addresses: Collection[str]) -> tuple[PhysicalFunction, ...]:
        own = {*own_addresses, address_towards(self._server)}
        with self._executor.session(self._executor.own_namespace) as session:
            links = uplinks(session, own)
        return with_netlink_facts(physical_functions(links, self._sysfs.root), self._links)


def read_guid_file(path: Path) -> GuidFile:
    """Read the file of GUIDs. A read error is the result's ``fault``."""
    try:
        with path.open("rb") as file:
            content = file.read(GUID_FILE_BYTES_MAX + 1)
    except FileNotFoundError:
        return GuidFile()
    except OSError as error:
        return GuidFile(exists=True, fault=f"the file of GUIDs cannot be read: {error.strerror}")
    if len(content) > GUID_FILE_BYTES_MAX:
        return GuidFile(
            exists=True, fault=f"the file of GUIDs has more than {GUID_FILE_BYTES_MAX} bytes"
        )
    return parse_guid_file(content.decode(errors="replace"))


class _HostAndPort(NamedTuple):
    host: str
    port: int


def address_towards(server: str) -> str:
    """The local address of connections to a URL; "" if the URL cannot be reached."""
    parts = urlsplit(server)
    target = _HostAndPort(parts.hostname or "", parts.port or HTTPS_PORT)
    if not target.host:
        return ""
    try:
        results = socket.getaddrinfo(*target, type=socket.SOCK_DGRAM)
        family, kind, protocol, _, address = results[0]
        with socket.socket(family, kind, protocol) as udp_socket:
            udp_socket.connect(address)  # for UDP this sends no packet
            return str(udp_socket.getsockname()[0])
    except OSError:
        return ""


def with_netlink_facts(
    nics: Collection[PhysicalFunction], links: VfLinks
) -> tuple[PhysicalFunction, ...]:
    """The NICs with settings that /sys does not have: eswitch modes, GUIDs, trust, spoof check.

    ``phys_switch_id`` in /sys does not show the eswitch mode: the drivers mlx5, ice and bnxt_en set
    it in every mode.
    """
    modes = links.eswitch_modes([nic.address for nic in nics])
    return tuple(
        _nic_with_vf_settings(nic._replace(eswitch_mode=modes.get(nic.address, LEGACY)), links)
        for nic in nics
    )


def _nic_with_vf_settings(nic: PhysicalFunction, links: VfLinks) -> PhysicalFunction:
    if not nic.vfs:
        return nic
    settings = links.vf_settings(nic.name)
    vfs = (_vf_with_settings(vf, settings.get(vf.number, VfSettings())) for vf in nic.vfs)
    return nic._replace(vfs=tuple(vfs))


def _vf_with_settings(vf: VirtualFunction, settings: VfSettings) -> VirtualFunction:
    return vf._replace(
        mac=vf.mac or settings.guid,  # ``mac`` of an InfiniBand VF is its GUID
        trust=settings.trust,
        spoof_check=settings.spoof_check,
        vlan=settings.vlan,
    )


def with_pods(
    nics: Collection[PhysicalFunction], pods: Mapping[str, str] | None
) -> tuple[PhysicalFunction, ...]:
    """The NICs, with ``is_used`` set for virtual functions of Pods.

    ``pods``: Pods by PCI address; None if kubelet did not answer.
    """

    def is_in_pod(vf: VirtualFunction) -> bool:
        return vf.driver == VFIO if pods is None else vf.address in pods

    def with_use(nic: PhysicalFunction) -> PhysicalFunction:
        vfs = (vf._replace(is_used=vf.is_used or is_in_pod(vf)) for vf in nic.vfs)
        return nic._replace(vfs=tuple(vfs))

    return tuple(map(with_use, nics))

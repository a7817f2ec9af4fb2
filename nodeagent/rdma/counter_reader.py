"""Reads RDMA counters of the node, and of Pods that have their own RDMA devices.

Device counters come from RDMA netlink or, on older kernels, from /sys. Statistics come from
ethtool.
"""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from ipaddress import IPv6Address
from pathlib import Path
from typing import Final, NamedTuple

from core.domain.addresses.ip_address import Address, parse_address
from core.errors import NamespaceGone, OrbweaverError
from nodeagent.netlink import ethtool
from nodeagent.netlink.namespaces import NetnsExecutor, NetworkNamespace
from nodeagent.netlink.rdma import RdmaDevice, RdmaPort, RdmaSocket
from nodeagent.netlink.values import INFINIBAND_ADDRESS_BYTES
from nodeagent.rdma.rdma_ports import NO_COUNTERS, NamespacePorts, RdmaPortLink
from nodeagent.sriov_master_addresses import SYSFS, master_of

DIRECTORIES: Final = (Path("/var/run/netns"), Path("/var/run/docker/netns"))
"""Container runtimes mount the Pods' network namespaces here."""

NOT_A_POD: Final = "default"
"""The file of the node's own namespace."""

NAMESPACES_MAX: Final = 4_096

READ_S_MAX: Final = 5.0
"""Seconds after which ``read`` opens no further namespace."""

ROUTE_DESTINATIONS: Final[tuple[Address, ...]] = (
    parse_address("1.0.0.0"),
    parse_address("2001:4860:4860::8888"),
)
"""Public addresses. The source address of a Pod's route to one of them identifies the Pod."""

_GUID_MASK: Final = (1 << 64) - 1
_TRAFFIC_CLASS: Final = re.compile(r"Global tclass=(\d+)")


class CounterReading(NamedTuple):
    """The ports of each namespace. ``faults``: error texts by the object that was not read."""

    namespaces: tuple[NamespacePorts, ...]
    faults: dict[str, str]


class CounterReader:
    """Reads the RDMA ports of all network namespaces."""

    def __init__(
        self,
        executor: NetnsExecutor,
        directories: tuple[Path, ...] = DIRECTORIES,
        sysfs: Path = SYSFS,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._executor = executor
        self._directories = directories
        self._sysfs = sysfs
        self._monotonic = monotonic

    def read(self) -> CounterReading:
        """Read all ports. An unreadable namespace becomes a fault.

        Blocks: call it in a worker thread, one call at a time.
        """
        namespaces: list[NamespacePorts] = []
        faults: dict[str, str] = {}
        own_namespace = self._executor.own_namespace
        try:
            rdma_socket = RdmaSocket.open(self._executor, own_namespace)
            if rdma_socket is None:
                return CounterReading((), {})
            with rdma_socket:
                namespaces.append(NamespacePorts(self._ports(rdma_socket, own_namespace)))
                exclusive = rdma_socket.exclusive()
        except (OSError, OrbweaverError) as error:
            return CounterReading((), {"the node": str(error)})
        if exclusive:  # otherwise every namespace has the devices that were just read
            namespaces += self._pod_namespaces(faults)
        return CounterReading(tuple(namespaces), faults)

    def _pod_namespaces(self, faults: dict[str, str]) -> Iterator[NamespacePorts]:
        deadline = self._monotonic() + READ_S_MAX
        read_identities = {self._executor.own_namespace.identity}
        for number, path in enumerate(_namespaces(self._directories)):
            if number == NAMESPACES_MAX or self._monotonic() > deadline:
                limits = f"{NAMESPACES_MAX} namespaces or {READ_S_MAX:g} s"
                faults["Pods"] = f"some were not read: one reading is limited to {limits}"
                return
            try:
                with NetworkNamespace.open(str(path)) as namespace:
                    if namespace.identity in read_identities:
                        continue
                    read_identities.add(namespace.identity)
                    ports = self._pod_ports(namespace)
            except NamespaceGone:
                continue
            except (OSError, OrbweaverError) as error:
                faults[str(path)] = str(error)
                continue
            if ports is not None:
                yield ports

    def _pod_ports(self, namespace: NetworkNamespace) -> NamespacePorts | None:
        rdma_socket = RdmaSocket.open(self._executor, namespace)
        if rdma_socket is None:
            return None
        with rdma_socket:
            ports = self._ports(rdma_socket, namespace)
        return NamespacePorts(ports, self._pod_address(namespace)) if ports else None

    def _pod_address(self, namespace: NetworkNamespace) -> str:
        """The Pod's address; "" if no route has a source address."""
        with self._executor.session(namespace) as session:
            for destination in ROUTE_DESTINATIONS:
                with suppress(OrbweaverError):
                    route = session.route_to(destination)
                    if route is not None and route.source is not None:
                        return str(route.source)
        return ""

    def _ports(
        self, rdma_socket: RdmaSocket, namespace: NetworkNamespace
    ) -> tuple[RdmaPortLink, ...]:
        ports = [
            (device, port) for device in rdma_socket.devices() for port in rdma_socket.ports(device)
        ]
        if not ports:
            return ()
        links_by_guid: dict[int, str] = {}
        if any(not port.link for _, port in ports):
            links_by_guid = self._links_by_guid(namespace)
        kind = socket.SOCK_DGRAM | socket.SOCK_CLOEXEC
        is_own_namespace = namespace is self._executor.own_namespace
        port_links: list[RdmaPortLink] = []
        with self._executor.socket(namespace, socket.AF_INET, kind, 0) as netns_socket:
            for device, port in ports:
                guid = self._port_guid(device, port, is_own_namespace=is_own_namespace)
                link = port.link or links_by_guid.get(guid, "")
                if link:
                    port_with_link = port._replace(link=link)
                    port_links.append(
                        self._read_port(
                            rdma_socket,
                            netns_socket,
                            device,
                            port_with_link,
                            is_own_namespace=is_own_namespace,
                        )
                    )
        return tuple(port_links)

    def _port_guid(self, device: RdmaDevice, port: RdmaPort, *, is_own_namespace: bool) -> int:
        """A port's GUID from /sys; else the GUID of its device, right only for a single port."""
        if is_own_namespace:
            gid = self._sysfs / "class/infiniband" / device.name / f"ports/{port.number}/gids/0"
            with suppress(OSError, ValueError):
                return int(IPv6Address(gid.read_text("ascii").strip())) & _GUID_MASK
        return device.node_guid

    def _read_port(
        self,
        rdma_socket: RdmaSocket,
        netns_socket: socket.socket,
        device: RdmaDevice,
        port: RdmaPort,
        *,
        is_own_namespace: bool,
    ) -> RdmaPortLink:
        counters = rdma_socket.counters(device, port)
        directory = self._sysfs / "class/infiniband" / device.name
        # /sys shows only the devices of the agent's own namespace.
        if counters is None and is_own_namespace:
            counters = _counters_in(directory / f"ports/{port.number}/hw_counters")
        port_link = RdmaPortLink(
            device.name,
            port.link,
            device.node_guid,
            device.system_guid,
            NO_COUNTERS if counters is None else counters,
        )
        # Many drivers support only some of these requests.
        with suppress(OSError):
            port_link = port_link._replace(statistics=ethtool.statistics(netns_socket, port.link))
        with suppress(OSError):
            port_link = port_link._replace(speed_mbps=ethtool.speed_mbps(netns_socket, port.link))
        with suppress(OSError):
            bus = ethtool.bus_address(netns_socket, port.link)
            port_link = port_link._replace(parent=master_of(bus, self._sysfs) or "")
        if is_own_namespace and not port_link.parent:
            port_link = port_link._replace(traffic_class=_traffic_class(directory))
        return port_link

    def _links_by_guid(self, namespace: NetworkNamespace) -> dict[int, str]:
        with self._executor.session(namespace) as session:
            return {guid_of(link.mac): link.name for link in session.links() if link.mac}


def guid_of(mac: bytes) -> int:
    """The GUID of a MAC address: the last 8 bytes for IPoIB, with ff:fe inserted for Ethernet."""
    if len(mac) == INFINIBAND_ADDRESS_BYTES:
        return int.from_bytes(mac[-8:], "big")
    return int.from_bytes(mac[:3] + b"\xff\xfe" + mac[3:], "big")


def _namespaces(directories: tuple[Path, ...]) -> Iterator[Path]:
    for directory in directories:
        with suppress(FileNotFoundError):
            yield from (path for path in directory.iterdir() if path.name != NOT_A_POD)


def _counters_in(directory: Path) -> dict[str, int]:
    counters = {}
    with suppress(OSError):
        for path in directory.iterdir():
            if path.name == "lifespan":  # a setting
                continue
            with suppress(OSError, ValueError):
                counters[path.name] = int(path.read_text("ascii"))
    return counters


def _traffic_class(directory: Path) -> int:
    """The device's traffic class; 0 if it is unset or unknown."""
    try:
        match = _TRAFFIC_CLASS.search((directory / "tc/1/traffic_class").read_text("ascii"))
    except (OSError, ValueError):
        return 0
    return int(match[1]) if match else 0

"""Reading RDMA counters: on the node, and in Pods that have devices of their own. Reads only.

The kernel's counters come by its RDMA netlink, of older kernels from /sys; the link's by its
driver. No process is started for it. It blocks: it is called in a worker thread, one at a time.
Promise: what cannot be read is left out and counted, never guessed; one bad namespace costs no
other.
"""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from core.domain.addresses.ip_address import Address, parse_address
from core.errors import NamespaceGone, OrbweaverError
from nodeagent.netlink import ethtool
from nodeagent.netlink.namespaces import NetnsExecutor, NetworkNamespace
from nodeagent.netlink.rdma import RdmaDevice, RdmaPort, RdmaSocket
from nodeagent.rdma.values import NOTHING, NamespacePorts, RdmaPortLink
from nodeagent.sriov_master import SYSFS, master_of

DIRECTORIES: Final = (Path("/var/run/netns"), Path("/var/run/docker/netns"))
"""Where runtimes put the network namespaces of Pods."""

NOT_A_POD: Final = "default"
NAMESPACES_MAX: Final = 4_096
READ_S_MAX: Final = 5.0
"""No further namespace is begun after this long."""

ANYWHERE: Final[tuple[Address, ...]] = (
    parse_address("1.0.0.0"),
    parse_address("2001:4860:4860::8888"),
)
"""The source of what a Pod sends there is how it is known."""

_IPOIB_MAC_BYTES: Final = 20
_TRAFFIC_CLASS: Final = re.compile(r"Global tclass=(\d+)")


class CounterRead(NamedTuple):
    """``faults``: of what could not be read, by what it is of."""

    places: tuple[NamespacePorts, ...]
    faults: dict[str, str]


class CounterReader:
    """Reads whatever there is, each time anew."""

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

    def read(self) -> CounterRead:
        """Everything, within the bounds above."""
        places: list[NamespacePorts] = []
        faults: dict[str, str] = {}
        home = self._executor.home
        try:
            kernel = RdmaSocket.open(self._executor, home)
            if kernel is None:
                return CounterRead((), {})
            with kernel:
                places.append(NamespacePorts(self._ports(kernel, home)))
                exclusive = kernel.exclusive()
        except (OSError, OrbweaverError) as error:
            return CounterRead((), {"the node": str(error)})
        if exclusive:
            places += self._pods(faults)
        return CounterRead(tuple(places), faults)

    def _pods(self, faults: dict[str, str]) -> Iterator[NamespacePorts]:
        deadline = self._monotonic() + READ_S_MAX
        seen = {self._executor.home.identity}
        for number, path in enumerate(_namespaces(self._directories)):
            if number == NAMESPACES_MAX or self._monotonic() > deadline:
                bounds = f"{NAMESPACES_MAX} namespaces and {READ_S_MAX:g} s"
                faults["Pods"] = f"not all are read: {bounds} are all that one reading may take"
                return
            try:
                with NetworkNamespace.open(str(path)) as namespace:
                    if namespace.identity in seen:
                        continue
                    seen.add(namespace.identity)
                    place = self._pod(namespace)
            except NamespaceGone:
                continue
            except (OSError, OrbweaverError) as error:
                faults[str(path)] = str(error)
                continue
            if place is not None:
                yield place

    def _pod(self, namespace: NetworkNamespace) -> NamespacePorts | None:
        kernel = RdmaSocket.open(self._executor, namespace)
        if kernel is None:
            return None
        with kernel:
            ports = self._ports(kernel, namespace)
        return NamespacePorts(ports, self._address(namespace)) if ports else None

    def _address(self, namespace: NetworkNamespace) -> str:
        """By which the Pod is known, "" if none can be told."""
        with self._executor.session(namespace) as session:
            for destination in ANYWHERE:
                with suppress(OrbweaverError):
                    route = session.route_to(destination)
                    if route is not None and route.source is not None:
                        return str(route.source)
        return ""

    def _ports(self, kernel: RdmaSocket, namespace: NetworkNamespace) -> tuple[RdmaPortLink, ...]:
        found = [(device, port) for device in kernel.devices() for port in kernel.ports(device)]
        if not found:
            return ()
        macs = self._macs(namespace) if any(not port.link for _, port in found) else {}
        kind = socket.SOCK_DGRAM | socket.SOCK_CLOEXEC
        with self._executor.socket(namespace, socket.AF_INET, kind, 0) as inside:
            named = ((d, p, p.link or macs.get(d.node_guid, "")) for d, p in found)
            at_home = namespace is self._executor.home
            return tuple(
                self._counted(kernel, inside, device, port._replace(link=link), at_home=at_home)
                for device, port, link in named
                if link
            )

    def _counted(
        self,
        kernel: RdmaSocket,
        inside: socket.socket,
        device: RdmaDevice,
        port: RdmaPort,
        *,
        at_home: bool,
    ) -> RdmaPortLink:
        counters = kernel.counters(device, port)
        directory = self._sysfs / "class/infiniband" / device.name
        # /sys shows the devices of the agent's own namespace.
        if counters is None and at_home:
            counters = _counters_in(directory / f"ports/{port.number}/hw_counters")
        counted = RdmaPortLink(
            device.name,
            port.link,
            device.node_guid,
            device.system_guid,
            NOTHING if counters is None else counters,
        )
        # Many a link has no driver that answers, and a soft device's is any link.
        with suppress(OSError):
            counted = counted._replace(statistics=ethtool.statistics(inside, port.link))
        with suppress(OSError):
            counted = counted._replace(speed_mbps=ethtool.speed_mbps(inside, port.link))
        with suppress(OSError):
            bus = ethtool.driver_bus(inside, port.link)
            counted = counted._replace(parent=master_of(bus, self._sysfs) or "")
        if at_home and counted.is_root:
            counted = counted._replace(traffic_class=_traffic_class(directory))
        return counted

    def _macs(self, namespace: NetworkNamespace) -> dict[int, str]:
        """Links by the GUID that their MAC address is made of."""
        with self._executor.session(namespace) as session:
            return {guid_of(link.mac): link.name for link in session.links() if link.mac}


def guid_of(mac: bytes) -> int:
    """IPoIB has its port's GUID at the end; Ethernet all of it but the two bytes in the middle."""
    if len(mac) == _IPOIB_MAC_BYTES:
        return int.from_bytes(mac[-8:], "big")
    return int.from_bytes(mac[:3] + b"\xff\xfe" + mac[3:], "big")


def _namespaces(directories: tuple[Path, ...]) -> Iterator[Path]:
    for directory in directories:
        with suppress(FileNotFoundError):
            yield from (path for path in directory.iterdir() if path.name != NOT_A_POD)


def _counters_in(directory: Path) -> dict[str, int]:
    """A file a counter; beside them lies how long their values are kept."""
    found = {}
    with suppress(OSError):
        for path in directory.iterdir():
            if path.name == "lifespan":
                continue
            with suppress(OSError, ValueError):
                found[path.name] = int(path.read_text("ascii"))
    return found


def _traffic_class(directory: Path) -> int:
    """Of all the device's packets; 0 where nobody has set one, or the driver knows of none."""
    try:
        said = _TRAFFIC_CLASS.search((directory / "tc/1/traffic_class").read_text("ascii"))
    except (OSError, ValueError):
        return 0
    return int(said[1]) if said else 0

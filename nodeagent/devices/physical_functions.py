"""Reads a node's SR-IOV capable NICs, and finds the links that carry the node's own traffic."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Final

from core.domain.sriov.model import (
    ETHERNET,
    INFINIBAND,
    NICS_MAX,
    VFIO,
    VFS_MAX,
    LinkType,
    PhysicalFunction,
    VirtualFunction,
)
from nodeagent.netlink.session import NetlinkSession
from nodeagent.netlink.values import KernelRoute, Link
from nodeagent.sriov_master_addresses import SYSFS, is_representor

_ARPHRD_INFINIBAND: Final = 32  # include/uapi/linux/if_arp.h
_GUID_BYTES: Final = 8


def physical_functions(
    own_links: Collection[str], sysfs: Path = SYSFS
) -> tuple[PhysicalFunction, ...]:
    """Every SR-IOV capable NIC (PF), ordered by name; at most NICS_MAX. Raises OSError.

    ``own_links``: links that carry the node's own traffic. A PCI device with several ports is one
    NIC with the first port's name. ``eswitch_mode`` is not set, because /sys does not have it.
    """
    first_ports: dict[Path, Path] = {}
    for link in sorted((sysfs / "class/net").iterdir(), key=_port_and_name):
        device = link / "device"
        if (device / "sriov_totalvfs").exists() and not is_representor(link):
            first_ports.setdefault(device.resolve(), link)
    nics = sorted((link, device) for device, link in first_ports.items())
    return tuple(_physical_function(link, device, own_links) for link, device in nics[:NICS_MAX])


def _port_and_name(link: Path) -> tuple[int, str]:
    return int(_text(link / "dev_port") or 0), link.name


def uplinks(session: NetlinkSession, own_addresses: Collection[str] = ()) -> set[str]:
    """Apply ``uplinks_of`` to the links and routes of a session. Raises DatapathError.

    ``own_addresses``, without prefix lengths: the addresses of the Node object, and the local
    addresses of connections to the API server.
    """
    uplink_indexes = [
        address.link for address in session.addresses() if str(address.address) in own_addresses
    ]
    return uplinks_of(session.links(), session.routes(), uplink_indexes)


def uplinks_of(
    all_links: Collection[Link], routes: Iterable[KernelRoute], uplink_indexes: Iterable[int] = ()
) -> set[str]:
    """Names of the links that carry the node's own traffic.

    These are the links of default routes, the links with an ifindex in ``uplink_indexes``, and all
    devices below these links.
    """
    links = {link.ifindex: link for link in all_links}
    to_visit = [ifindex for route in routes if route.is_default for ifindex in route.links]
    to_visit += uplink_indexes
    visited: set[int] = set()
    while to_visit:
        ifindex = to_visit.pop()
        if ifindex in links and ifindex not in visited:
            visited.add(ifindex)
            to_visit += _lower_indexes(links[ifindex], links.values())
    return {links[ifindex].name for ifindex in visited}


def _lower_indexes(link: Link, links: Collection[Link]) -> Iterator[int]:
    """The ports of a bond or bridge; the parent of a VLAN or macvlan."""
    if link.parent and link.parent_netns is None:
        yield link.parent
    yield from (other.ifindex for other in links if other.master == link.ifindex)


def _physical_function(link: Path, device: Path, own_links: Collection[str]) -> PhysicalFunction:
    is_infiniband = int(_text(link / "type") or 0) == _ARPHRD_INFINIBAND
    link_type: LinkType = INFINIBAND if is_infiniband else ETHERNET
    vfs = tuple(_virtual_functions(device))
    links = [*_link_names(device), *(vf.link for vf in vfs)]
    return PhysicalFunction(
        name=link.name,
        address=device.name,
        vendor=_hexadecimal(device / "vendor"),
        device=_hexadecimal(device / "device"),
        mac=_mac(link),
        mtu=int(_text(link / "mtu") or 0),
        vfs_max=int(_text(device / "sriov_totalvfs") or 0),
        vfs=vfs,
        link_type=link_type,
        is_uplink=any(name in own_links for name in links),
        driver=_target(device / "driver"),
        has_carrier=any(_text(port / "carrier") == "1" for port in _ports(device)),
        numa_node=_numa_node(device),
        rdma=rdma_devices(device),
    )


def _link_names(device: Path) -> list[str]:
    """Names of a PCI device's links."""
    net = device / "net"
    return [link.name for link in net.iterdir()] if net.is_dir() else []


def _ports(device: Path) -> Iterator[Path]:
    """Paths of a PCI device's links that are not representors."""
    links = (device / "net" / name for name in _link_names(device))
    return (link for link in links if not is_representor(link))


def _virtual_functions(device: Path) -> Iterator[VirtualFunction]:
    for number in range(min(int(_text(device / "sriov_numvfs") or 0), VFS_MAX)):
        entry = device / f"virtfn{number}"
        if not entry.exists():
            continue
        device_of_vf = entry.resolve()
        driver = _target(device_of_vf / "driver")
        net = device_of_vf / "net"
        link = min(net.iterdir(), default=None) if net.is_dir() else None
        vf = VirtualFunction(
            number,
            device_of_vf.name,
            driver,
            # A VF with a network driver but no link has its netdev in another network namespace.
            is_used=link is None and driver not in {"", VFIO},
            numa_node=_numa_node(device_of_vf),
            rdma=rdma_devices(device_of_vf),
            iommu_group=_target(device_of_vf / "iommu_group"),
        )
        if link is not None:
            mtu = int(_text(link / "mtu") or 0)
            vf = vf._replace(link=link.name, mac=_mac(link), mtu=mtu)
        yield vf


def _target(link: Path) -> str:
    return link.resolve().name if link.exists() else ""


def _numa_node(device: Path) -> int:
    return int(_text(device / "numa_node") or -1)


def rdma_devices(device: Path) -> tuple[str, ...]:
    """The RDMA devices of a PCI device in this network namespace."""
    try:
        return tuple(sorted(path.name for path in (device / "infiniband").iterdir()))
    except OSError:
        return ()


def _mac(link: Path) -> str:
    """The hardware address of a link; of InfiniBand, only its last 8 bytes (the GUID)."""
    address = _text(link / "address")
    parts = address.split(":")
    return ":".join(parts[-_GUID_BYTES:]) if len(parts) > _GUID_BYTES else address


def _hexadecimal(path: Path) -> str:
    return _text(path).removeprefix("0x").lower()


def _text(path: Path) -> str:
    try:
        return path.read_text("ascii").strip()
    except OSError:
        return ""

"""Reads the interfaces that can be masters of Pods' interfaces."""

from __future__ import annotations

from typing import Final, NamedTuple

from core.domain.addresses.ip_address import Family, format_address
from nodeagent.netlink.numbers import IF_OPER_UP, RT_SCOPE_LINK
from nodeagent.netlink.session import NetlinkSession
from nodeagent.netlink.values import Link, mac_text

MASTER_KINDS: Final = ("", "bond", "vlan", "bridge", "team", "openvswitch", "veth", "macvlan")
"""Kinds of links; "" is a NIC. Inside containers a veth can be a master."""

_IF_OPER_UNKNOWN: Final = 0  # include/uapi/linux/if.h; a link without a state has it
_ETHERNET_MAC_BYTES: Final = 6


class MasterNic(NamedTuple):
    """An interface that can be a master.

    ``kind``: "nic", or the kind of a virtual link. ``promiscuity``: how many users of the link set
    promiscuous mode. ``addresses``: with prefix length, not link-local. ``device`` and
    the fields after it come from ``hardware.Hardware``.
    """

    name: str
    kind: str
    mac: str
    mtu: int
    up: bool
    carrier: bool
    promiscuity: int
    master: str
    addresses: tuple[str, ...]
    device: str = ""
    vfs: int = 0
    vfs_max: int = 0
    rdma: tuple[str, ...] = ()


class Gateway(NamedTuple):
    """A gateway and the interface that leads to it."""

    interface: str
    address: str
    family: Family


def master_nics(session: NetlinkSession) -> list[MasterNic]:
    """Raises NetlinkRefused, NetlinkLost."""
    links = session.links()
    names = {link.ifindex: link.name for link in links}
    addresses: dict[int, list[str]] = {}
    for entry in session.addresses():
        if entry.scope < RT_SCOPE_LINK:
            text = f"{format_address(*entry.address)}/{entry.prefix_length}"
            addresses.setdefault(entry.link, []).append(text)
    return [
        _nic(link, names, tuple(addresses.get(link.ifindex, ())))
        for link in links
        if not link.loopback and link.kind in MASTER_KINDS and len(link.mac) == _ETHERNET_MAC_BYTES
    ]


def default_gateways(session: NetlinkSession) -> list[Gateway]:
    """The gateways of the default routes. Raises NetlinkRefused, NetlinkLost."""
    names = {link.ifindex: link.name for link in session.links()}
    families: tuple[Family, ...] = (4, 6)
    gateways = [
        Gateway(names.get(ifindex, "?"), format_address(*gateway), family)
        for family in families
        for route in session.routes(family)
        if route.is_default
        for ifindex, gateway in (
            [(hop.link, hop.gateway) for hop in route.hops] or [(route.link, route.gateway)]
        )
        if gateway is not None
    ]
    return list(dict.fromkeys(gateways))


def _nic(link: Link, names: dict[int, str], addresses: tuple[str, ...]) -> MasterNic:
    return MasterNic(
        link.name,
        link.kind or "nic",
        mac_text(link.mac),
        link.mtu,
        up=link.up,
        carrier=link.up and link.operstate in (IF_OPER_UP, _IF_OPER_UNKNOWN),
        promiscuity=link.promiscuity,
        master=names.get(link.master, "") if link.master else "",
        addresses=addresses,
    )

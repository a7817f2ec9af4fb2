"""Netlink messages of bonds and VLANs, encoded and decoded by pyroute2.

Import this module only where such a link is created: pyroute2 adds 13 MB to the process and 0.1 s
to the first use (docs/contributing/decisions/0009-netlink-messages-by-hand.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.ifinfmsg.plugins.bond import bond
from pyroute2.netlink.rtnl.ifinfmsg.plugins.vlan import vlan

from nodeagent.ifacer.bond_options import BondOptions
from nodeagent.netlink.codec import MESSAGE_HEADER, attribute
from nodeagent.netlink.numbers import RTM_NEWLINK
from nodeagent.netlink.requests import NEW_FLAGS, Request
from nodeagent.netlink.values import Link

Attributes = Mapping[str, object]
"""Names are from include/uapi/linux/if_link.h."""

NO_ATTRIBUTES: Final[Attributes] = MappingProxyType({})

VLAN_KIND: Final = "vlan"
BOND_KIND: Final = "bond"


def add_link(name: str, kind: str, *, parent: int = 0, data: Attributes = NO_ATTRIBUTES) -> Request:
    """Create a link. ``parent``: the index of the parent link, 0 for none."""
    attributes: list[tuple[str, Any]] = [("IFLA_IFNAME", name)]
    if parent:
        attributes.append(("IFLA_LINK", parent))
    body = _packed_message(0, [*attributes, _link_info(kind, data)])
    return Request(RTM_NEWLINK, NEW_FLAGS, body, f"add {kind} link", name)


def add_vlan(name: str, parent: int, vlan_id: int) -> Request:
    """Create a VLAN on a link."""
    return add_link(name, VLAN_KIND, parent=parent, data={"IFLA_VLAN_ID": vlan_id})


def add_bond(name: str, mode: int, options: BondOptions, index_of: Mapping[str, int]) -> Request:
    """Create a bond, without ``active_slave``, because the bond has no members yet.

    ``index_of``: interface name -> index, for the option ``primary``.
    """
    data: dict[str, object] = {"IFLA_BOND_MODE": mode}
    data |= {option.attribute: value for option, value in options.numbers}
    if options.arp_targets:
        data["IFLA_BOND_ARP_IP_TARGET"] = list(options.arp_targets)
    if options.actor_mac:
        data["IFLA_BOND_AD_ACTOR_SYSTEM"] = options.actor_mac
    if options.primary:
        data["IFLA_BOND_PRIMARY"] = index_of[options.primary]
    return add_link(name, BOND_KIND, data=data)


def set_active_member(bond_index: int, member_index: int) -> Request:
    """Choose the active member of a bond."""
    info = _link_info(BOND_KIND, {"IFLA_BOND_ACTIVE_SLAVE": member_index})
    return Request(
        RTM_NEWLINK, 0, _packed_message(bond_index, [info]), "change bond link", bond_index
    )


def read_vlan_id(link: Link) -> int:
    """The ID of a VLAN; 0 if the kernel reports no ID."""
    return _read(vlan, link, "IFLA_VLAN_ID")


def read_bond_mode(link: Link) -> int:
    """The mode of a bond; 0 if the kernel reports no mode."""
    return _read(bond, link, "IFLA_BOND_MODE")


def _link_info(kind: str, data: Attributes) -> tuple[str, Any]:
    info: list[tuple[str, Any]] = [("IFLA_INFO_KIND", kind)]
    if data:
        info.append(("IFLA_INFO_DATA", {"attrs": list(data.items())}))
    return "IFLA_LINKINFO", {"attrs": info}


def _packed_message(index: int, attributes: list[tuple[str, Any]]) -> bytes:
    message = ifinfmsg()
    message["index"] = index
    message["attrs"] = attributes
    message.encode()
    return bytes(message.data[MESSAGE_HEADER.size :])


def _read(kind: Any, link: Link, name: str) -> int:  # noqa: ANN401  # pyroute2 has no types
    attributes = kind(data=bytearray(attribute(0, link.data)))  # pyroute2 ignores the type, 0
    attributes.decode()
    return int(attributes.get_attr(name) or 0)

"""Decodes the kernel's rtnetlink messages. Missing attributes get the kernel's default."""

from __future__ import annotations

from typing import Final

from core.domain.addresses.ip_address import ADDRESS_BITS, Address, Cidr, Family
from nodeagent.netlink import numbers as n
from nodeagent.netlink.codec import U16, attributes, text, u32
from nodeagent.netlink.requests import (
    FIB_RULE_HDR,
    IFADDRMSG,
    IFINFOMSG,
    NDMSG,
    RTMSG,
    RTNEXTHOP,
    RTVIA,
)
from nodeagent.netlink.values import Hop, KernelRoute, Link, LinkAddress, Neighbour, RoutingRule

FAMILY_OF: Final[dict[int, Family]] = {2: 4, 10: 6}  # AF_INET, AF_INET6


def link(body: memoryview) -> Link:
    """Decode an ``RTM_NEWLINK``."""
    _, _, number, flags, _ = IFINFOMSG.unpack_from(body)
    values = attributes(body[IFINFOMSG.size :])
    info = attributes(values.get(n.IFLA_LINKINFO, b""))
    netns = values.get(n.IFLA_LINK_NETNSID)
    return Link(
        number,
        text(values.get(n.IFLA_IFNAME)),
        flags,
        text(info.get(n.IFLA_INFO_KIND)),
        bytes(values.get(n.IFLA_ADDRESS, b"")),
        u32(values.get(n.IFLA_MTU)),
        u32(values.get(n.IFLA_TXQLEN)),
        u32(values.get(n.IFLA_LINK)),
        None if netns is None else u32(netns),
        u32(values.get(n.IFLA_MASTER)),
        values[n.IFLA_OPERSTATE][0] if n.IFLA_OPERSTATE in values else 0,
        u32(values.get(n.IFLA_PROMISCUITY)),
        bytes(info.get(n.IFLA_INFO_DATA, b"")),
    )


def link_address(body: memoryview) -> LinkAddress:
    """Decode an ``RTM_NEWADDR``."""
    family, length, flags, scope, number = IFADDRMSG.unpack_from(body)
    values = attributes(body[IFADDRMSG.size :])
    # On a point-to-point link, IFA_ADDRESS is the address of the peer.
    value = values[n.IFA_LOCAL] if n.IFA_LOCAL in values else values[n.IFA_ADDRESS]
    address = _address(FAMILY_OF[family], value)
    return LinkAddress(number, address, length, scope, u32(values.get(n.IFA_FLAGS), flags))


def route(body: memoryview) -> KernelRoute:
    """Decode an ``RTM_NEWROUTE``."""
    af, length, _, _, table, protocol, scope, kind, flags = RTMSG.unpack_from(body)
    family = FAMILY_OF[af]
    values = attributes(body[RTMSG.size :])
    source = values.get(n.RTA_PREFSRC)
    return KernelRoute(
        _prefix(family, length, values.get(n.RTA_DST)),
        u32(values.get(n.RTA_OIF)),
        _gateway(family, values),
        u32(values.get(n.RTA_TABLE), table),
        None if source is None else _address(family, source),
        scope,
        protocol,
        kind,
        u32(values.get(n.RTA_PRIORITY)),
        # The other flags are temporary state.
        flags & (n.RTM_F_CLONED | n.RTNH_F_ONLINK),
        bytes(values.get(n.RTA_METRICS, b"")),
        tuple(_hops(family, values.get(n.RTA_MULTIPATH, memoryview(b"")))),
    )


def rule(body: memoryview) -> RoutingRule:
    """Decode an ``RTM_NEWRULE``."""
    af, destination_length, source_length, _, table, *_ = FIB_RULE_HDR.unpack_from(body)
    family = FAMILY_OF[af]
    values = attributes(body[FIB_RULE_HDR.size :])
    destination, source = values.get(n.FRA_DST), values.get(n.FRA_SRC)
    return RoutingRule(
        family,
        u32(values.get(n.FRA_TABLE), table),
        u32(values.get(n.FRA_PRIORITY)),
        None if source is None else _prefix(family, source_length, source),
        None if destination is None else _prefix(family, destination_length, destination),
        u32(values.get(n.FRA_FWMARK)),
        u32(values.get(n.FRA_FWMASK)),
        text(values.get(n.FRA_IIFNAME)),
        text(values.get(n.FRA_OIFNAME)),
    )


def neighbour(body: memoryview) -> Neighbour | None:
    """Decode an ``RTM_NEWNEIGH``; None if it is not an IP neighbour."""
    family, link_index, state, _, _ = NDMSG.unpack_from(body)
    values = attributes(body[NDMSG.size :])
    if family not in FAMILY_OF or n.NDA_DST not in values:
        return None
    mac = bytes(values.get(n.NDA_LLADDR, b""))
    return Neighbour(link_index, _address(FAMILY_OF[family], values[n.NDA_DST]), mac, state)


def _address(family: Family, value: memoryview) -> Address:
    return Address(family, int.from_bytes(value, "big"))


def _prefix(family: Family, length: int, value: memoryview | None) -> Cidr:
    first = 0 if value is None else int.from_bytes(value, "big")
    last = first | ((1 << (ADDRESS_BITS[family] - length)) - 1)
    return Cidr(family, first, last, length, first)


def _gateway(family: Family, values: dict[int, memoryview]) -> Address | None:
    if n.RTA_GATEWAY in values:
        return _address(family, values[n.RTA_GATEWAY])
    if n.RTA_VIA in values:
        via = values[n.RTA_VIA]
        return _address(FAMILY_OF[U16.unpack_from(via)[0]], via[RTVIA.size :])
    return None


def _hops(family: Family, data: memoryview) -> list[Hop]:
    hops = []
    while len(data) >= RTNEXTHOP.size:
        length, flags, weight, number = RTNEXTHOP.unpack_from(data)
        if length < RTNEXTHOP.size or length > len(data):
            break
        values = attributes(data[RTNEXTHOP.size : length])
        hops.append(Hop(number, _gateway(family, values), weight + 1, flags & n.RTNH_F_ONLINK))
        data = data[length + (-length & 3) :]
    return hops

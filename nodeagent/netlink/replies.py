"""The kernel's answers, read as values.

Promise: attributes that are not known here are ignored, missing ones have the kernel's own default.
It judges nothing.
"""

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

FAMILY_OF: Final[dict[int, Family]] = {2: 4, 10: 6}


def link(body: memoryview) -> Link:
    """An ``RTM_NEWLINK``."""
    _, _, number, flags, _ = IFINFOMSG.unpack_from(body)
    found = attributes(body[IFINFOMSG.size :])
    info = attributes(found.get(n.IFLA_LINKINFO, b""))
    netns = found.get(n.IFLA_LINK_NETNSID)
    return Link(
        number,
        text(found.get(n.IFLA_IFNAME)),
        flags,
        text(info.get(n.IFLA_INFO_KIND)),
        bytes(found.get(n.IFLA_ADDRESS, b"")),
        u32(found.get(n.IFLA_MTU)),
        u32(found.get(n.IFLA_TXQLEN)),
        u32(found.get(n.IFLA_LINK)),
        None if netns is None else u32(netns),
        u32(found.get(n.IFLA_MASTER)),
        found[n.IFLA_OPERSTATE][0] if n.IFLA_OPERSTATE in found else 0,
        u32(found.get(n.IFLA_PROMISCUITY)),
        bytes(info.get(n.IFLA_INFO_DATA, b"")),
    )


def link_address(body: memoryview) -> LinkAddress:
    """An ``RTM_NEWADDR``. The own end of a point-to-point address is IFA_LOCAL."""
    family, length, flags, scope, number = IFADDRMSG.unpack_from(body)
    found = attributes(body[IFADDRMSG.size :])
    value = found[n.IFA_LOCAL] if n.IFA_LOCAL in found else found[n.IFA_ADDRESS]
    address = _address(FAMILY_OF[family], value)
    return LinkAddress(number, address, length, scope, u32(found.get(n.IFA_FLAGS), flags))


def route(body: memoryview) -> KernelRoute:
    """An ``RTM_NEWROUTE``, of a listing or in answer to ``requests.get_route``."""
    head = RTMSG.unpack_from(body)
    family = FAMILY_OF[head[0]]
    found = attributes(body[RTMSG.size :])
    source = found.get(n.RTA_PREFSRC)
    return KernelRoute(
        _prefix(family, head[1], found.get(n.RTA_DST)),
        u32(found.get(n.RTA_OIF)),
        _gateway(family, found),
        u32(found.get(n.RTA_TABLE), head[4]),
        None if source is None else _address(family, source),
        head[6],
        head[5],
        head[7],
        u32(found.get(n.RTA_PRIORITY)),
        # What else is in there tells the state of the moment, such as a link that is down.
        head[8] & (n.RTM_F_CLONED | n.RTNH_F_ONLINK),
        bytes(found.get(n.RTA_METRICS, b"")),
        tuple(_hops(family, found.get(n.RTA_MULTIPATH, memoryview(b"")))),
    )


def rule(body: memoryview) -> RoutingRule:
    """An ``RTM_NEWRULE``."""
    head = FIB_RULE_HDR.unpack_from(body)
    family = FAMILY_OF[head[0]]
    found = attributes(body[FIB_RULE_HDR.size :])
    destination, source = found.get(n.FRA_DST), found.get(n.FRA_SRC)
    return RoutingRule(
        family,
        u32(found.get(n.FRA_TABLE), head[4]),
        u32(found.get(n.FRA_PRIORITY)),
        None if source is None else _prefix(family, head[2], source),
        None if destination is None else _prefix(family, head[1], destination),
        u32(found.get(n.FRA_FWMARK)),
        u32(found.get(n.FRA_FWMASK)),
        text(found.get(n.FRA_IIFNAME)),
        text(found.get(n.FRA_OIFNAME)),
    )


def neighbour(body: memoryview) -> Neighbour | None:
    """An ``RTM_NEWNEIGH``; None where it is no IP neighbour."""
    number, number_of_link, state, _, _ = NDMSG.unpack_from(body)
    found = attributes(body[NDMSG.size :])
    if number not in FAMILY_OF or n.NDA_DST not in found:
        return None
    mac = bytes(found.get(n.NDA_LLADDR, b""))
    return Neighbour(number_of_link, _address(FAMILY_OF[number], found[n.NDA_DST]), mac, state)


def _address(family: Family, value: memoryview) -> Address:
    return Address(family, int.from_bytes(value, "big"))


def _prefix(family: Family, length: int, value: memoryview | None) -> Cidr:
    first = 0 if value is None else int.from_bytes(value, "big")
    last = first | ((1 << (ADDRESS_BITS[family] - length)) - 1)
    return Cidr(family, first, last, length, first)


def _gateway(family: Family, found: dict[int, memoryview]) -> Address | None:
    if n.RTA_GATEWAY in found:
        return _address(family, found[n.RTA_GATEWAY])
    if n.RTA_VIA in found:
        via = found[n.RTA_VIA]
        return _address(FAMILY_OF[U16.unpack_from(via)[0]], via[RTVIA.size :])
    return None


def _hops(family: Family, data: memoryview) -> list[Hop]:
    hops = []
    while len(data) >= RTNEXTHOP.size:
        length, flags, weight, number = RTNEXTHOP.unpack_from(data)
        if length < RTNEXTHOP.size or length > len(data):
            break
        found = attributes(data[RTNEXTHOP.size : length])
        kept = flags & n.RTNH_F_ONLINK
        hops.append(Hop(number, _gateway(family, found), weight + 1, kept))
        data = data[length + (-length & 3) :]
    return hops

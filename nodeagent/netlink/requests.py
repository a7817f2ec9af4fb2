"""Encodes rtnetlink requests.

It is not an error to delete a missing object, or to add an existing address, route or rule.
"""

from __future__ import annotations

from errno import (
    EADDRNOTAVAIL,
    EEXIST,
    EHOSTUNREACH,
    ENETUNREACH,
    ENODEV,
    ENOENT,
    ESRCH,
)
from struct import Struct
from typing import Final, NamedTuple

from core.domain.addresses.ip_address import ADDRESS_BITS, Address, Cidr, Family
from nodeagent.netlink import numbers as n
from nodeagent.netlink.codec import attribute, attribute_text, attribute_u32, nested
from nodeagent.netlink.values import (
    Hop,
    KernelRoute,
    LinkAddress,
    Mac,
    Neighbour,
    RoutingRule,
    mac_text,
)

IFINFOMSG: Final = Struct("=BxHiII")
IFADDRMSG: Final = Struct("=BBBBI")
IFADDRMSG_SCOPE: Final = 3  # the offset of the scope

RTMSG: Final = Struct("=BBBBBBBBI")
NDMSG: Final = Struct("=BxxxiHBB")
FIB_RULE_HDR: Final = Struct("=BBBBBBBBI")
RTNEXTHOP: Final = Struct("=HBBi")
RTVIA: Final = Struct("=H")

AF_OF: Final[dict[Family, int]] = {4: 2, 6: 10}
"""IP version -> AF_INET or AF_INET6."""

ALL_BITS: Final = 0xFFFFFFFF
NEW_FLAGS: Final = n.NLM_F_CREATE | n.NLM_F_EXCL
EXISTS: Final = frozenset({EEXIST})
UNREACHABLE: Final = frozenset({ENETUNREACH, EHOSTUNREACH})
GONE: Final = frozenset({ENOENT, ESRCH, ENODEV, EADDRNOTAVAIL})


class Request(NamedTuple):
    """One message without a sequence number. ``tolerated``: errno values that count as success.

    ``what`` is composed only for error texts and traces, for speed.
    """

    kind: int
    flags: int
    body: bytes
    verb: str
    subject: object = ""
    tolerated: frozenset[int] = frozenset()

    @property
    def what(self) -> str:
        """The operation."""
        return f"{self.verb} {self.subject}" if self.subject else self.verb


_REMOVALS: Final = {
    n.RTM_NEWROUTE: (n.RTM_DELROUTE, "delete route"),
    n.RTM_NEWRULE: (n.RTM_DELRULE, "delete rule"),
    n.RTM_NEWNEIGH: (n.RTM_DELNEIGH, "delete neighbour"),
}


def removal(request: Request) -> Request:
    """The request to delete the route, rule or neighbour that ``request`` adds."""
    kind, verb = _REMOVALS[request.kind]
    return Request(kind, 0, request.body, verb, request.subject, GONE)


# ------------------------------------------------------------------------------------ links


def get_link(name: str) -> Request:
    """Read the link with a name."""
    body = IFINFOMSG.pack(0, 0, 0, 0, 0) + _link_filter() + attribute_text(n.IFLA_IFNAME, name)
    return Request(n.RTM_GETLINK, 0, body, "read link", name)


def get_link_by_index(number: int) -> Request:
    """Read the link with an ifindex."""
    body = IFINFOMSG.pack(0, 0, number, 0, 0) + _link_filter()
    return Request(n.RTM_GETLINK, 0, body, "read link", number)


class VethEnd(NamedTuple):
    """One end of a new veth pair."""

    name: str
    mac: Mac


def add_veth(near: VethEnd, far: VethEnd, *, mtu: int, far_netns_fd: int) -> Request:
    """Create a veth pair: the near end is up; the far end is down, in another namespace.

    A later move of the far end would take 12-20 ms.
    """
    up = IFINFOMSG.pack(0, 0, 0, n.IFF_UP, n.IFF_UP)
    far_netns = attribute_u32(n.IFLA_NET_NS_FD, far_netns_fd)
    # The kernel creates the far end first. Without a peer the far end cannot be up.
    down = IFINFOMSG.pack(0, 0, 0, 0, 0)
    peer = down + _link_attributes(far.name, mtu, far.mac) + far_netns
    details = (
        attribute(n.IFLA_INFO_KIND, b"veth"),
        nested(n.IFLA_INFO_DATA, nested(n.VETH_INFO_PEER, peer)),
    )
    body = up + _link_attributes(near.name, mtu, near.mac) + nested(n.IFLA_LINKINFO, *details)
    return Request(n.RTM_NEWLINK, NEW_FLAGS, body, "add veth pair", f"{near.name} and {far.name}")


def set_link_up(link: int) -> Request:
    """Set a link up."""
    body = IFINFOMSG.pack(0, 0, link, n.IFF_UP, n.IFF_UP)
    return Request(n.RTM_NEWLINK, 0, body, "set up link", link)


def set_link_down(link: int) -> Request:
    """Set a link down."""
    body = IFINFOMSG.pack(0, 0, link, 0, n.IFF_UP)
    return Request(n.RTM_NEWLINK, 0, body, "set down link", link)


def set_mac(link: int, mac: Mac) -> Request:
    """Set a link's MAC address."""
    body = IFINFOMSG.pack(0, 0, link, 0, 0) + attribute(n.IFLA_ADDRESS, mac)
    return Request(n.RTM_NEWLINK, 0, body, f"set address {mac_text(mac)} of link", link)


def set_tx_queue_len(link: int, length: int) -> Request:
    """Set a link's transmit queue length, in packets."""
    body = IFINFOMSG.pack(0, 0, link, 0, 0) + attribute_u32(n.IFLA_TXQLEN, length)
    return Request(n.RTM_NEWLINK, 0, body, f"set transmit queue length {length} of link", link)


def set_master(link: int, master: int) -> Request:
    """Add a link to a bridge or bond; master 0 removes the link."""
    body = IFINFOMSG.pack(0, 0, link, 0, 0) + attribute_u32(n.IFLA_MASTER, master)
    return Request(n.RTM_NEWLINK, 0, body, f"set master {master} of link", link)


def delete_link(name: str) -> Request:
    """Delete the link with a name."""
    body = IFINFOMSG.pack(0, 0, 0, 0, 0) + attribute_text(n.IFLA_IFNAME, name)
    return Request(n.RTM_DELLINK, 0, body, "delete link", name, GONE)


def delete_link_by_index(number: int) -> Request:
    """Delete the link with an ifindex."""
    body = IFINFOMSG.pack(0, 0, number, 0, 0)
    return Request(n.RTM_DELLINK, 0, body, "delete link", number, GONE)


def _link_attributes(name: str, mtu: int, mac: Mac) -> bytes:
    packed = attribute_text(n.IFLA_IFNAME, name)
    if mtu:
        packed += attribute_u32(n.IFLA_MTU, mtu)
    if mac:
        packed += attribute(n.IFLA_ADDRESS, mac)
    return packed


def _link_filter() -> bytes:
    # Without this filter, counters would double the answer.
    return attribute_u32(n.IFLA_EXT_MASK, n.RTEXT_FILTER_SKIP_STATS)


# -------------------------------------------------------------------------------- addresses


def add_address(value: LinkAddress) -> Request:
    """Add an address."""
    return Request(n.RTM_NEWADDR, NEW_FLAGS, _address_body(value), "add address", value, EXISTS)


def delete_address(value: LinkAddress) -> Request:
    """Delete an address."""
    return Request(n.RTM_DELADDR, 0, _address_body(value), "delete address", value, GONE)


def _address_body(value: LinkAddress) -> bytes:
    address = packed_address(value.address)
    family = AF_OF[value.address.family]
    return (
        IFADDRMSG.pack(family, value.prefix_length, 0, value.scope, value.link)
        + attribute(n.IFA_LOCAL, address)
        + attribute(n.IFA_ADDRESS, address)
        + attribute_u32(n.IFA_FLAGS, value.flags)
    )


# ----------------------------------------------------------------------------------- routes


def get_route_to_address(destination: Address) -> Request:
    """Look up the route to an address. Without a route the answer is empty."""
    bits = ADDRESS_BITS[destination.family]
    body = RTMSG.pack(AF_OF[destination.family], bits, 0, 0, 0, 0, 0, 0, 0)
    body += attribute(n.RTA_DST, packed_address(destination))
    return Request(n.RTM_GETROUTE, 0, body, "find the route to", destination, UNREACHABLE)


class RouteLookup(NamedTuple):
    """A packet whose route is looked up. ``incoming``: its input link; 0 if it is sent locally."""

    destination: Address
    source: Address | None = None
    incoming: int = 0
    mark: int = 0

    def __str__(self) -> str:
        return str(self.destination)


def get_route_of_packet(lookup: RouteLookup, *, matched: bool = False) -> Request:
    """Look up a packet's route. ``matched``: ask for the route as it is in the routing table."""
    destination, source = lookup.destination, lookup.source
    bits = ADDRESS_BITS[destination.family]
    # For IPv6 the kernel always returns the table, and does not support this flag.
    flags = n.RTM_F_LOOKUP_TABLE if destination.family == 4 else 0
    flags |= n.RTM_F_FIB_MATCH if matched else 0
    head = (AF_OF[destination.family], bits, bits if source else 0, 0, 0, 0, 0, 0, flags)
    parts = [RTMSG.pack(*head), attribute(n.RTA_DST, packed_address(destination))]
    if source is not None:
        parts.append(attribute(n.RTA_SRC, packed_address(source)))
    if lookup.incoming:
        parts.append(attribute_u32(n.RTA_IIF, lookup.incoming))
    if lookup.mark:
        parts.append(attribute_u32(n.RTA_MARK, lookup.mark))
    return Request(n.RTM_GETROUTE, 0, b"".join(parts), "find the route to", lookup)


def add_route(route: KernelRoute) -> Request:
    """Add a route."""
    return Request(n.RTM_NEWROUTE, NEW_FLAGS, _route_body(route), "add route", route, EXISTS)


def append_route(route: KernelRoute) -> Request:
    """Add a route, even if the table has another route to the same destination."""
    flags = n.NLM_F_CREATE | n.NLM_F_APPEND
    return Request(n.RTM_NEWROUTE, flags, _route_body(route), "append route", route, EXISTS)


def replace_route(route: KernelRoute) -> Request:
    """Add or replace a route."""
    flags = n.NLM_F_CREATE | n.NLM_F_REPLACE
    return Request(n.RTM_NEWROUTE, flags, _route_body(route), "replace route", route)


def delete_route(route: KernelRoute) -> Request:
    """Delete a route."""
    return Request(n.RTM_DELROUTE, 0, _route_body(route), "delete route", route, GONE)


def _route_body(route: KernelRoute) -> bytes:
    family, first, _, length, _ = route.destination
    # RTA_TABLE (32 bits) overrides the header, which has eight bits for the table.
    table = route.table if route.table < n.RT_TABLE_COMPAT else n.RT_TABLE_UNSPEC
    body = RTMSG.pack(
        AF_OF[family], length, 0, 0, table, route.protocol, route.scope, route.kind, route.flags
    )
    parts = [body, attribute_u32(n.RTA_TABLE, route.table)]
    if length:
        parts.append(attribute(n.RTA_DST, first.to_bytes(ADDRESS_BITS[family] // 8, "big")))
    if route.metric:
        parts.append(attribute_u32(n.RTA_PRIORITY, route.metric))
    if route.source is not None:
        parts.append(attribute(n.RTA_PREFSRC, packed_address(route.source)))
    if route.metrics:
        parts.append(nested(n.RTA_METRICS, route.metrics))
    if route.hops:
        hops = b"".join(_packed_hop(hop, family) for hop in route.hops)
        parts.append(attribute(n.RTA_MULTIPATH, hops))
        return b"".join(parts)
    if route.gateway is not None:
        parts.append(_packed_gateway(route.gateway, family))
    if route.link:
        parts.append(attribute_u32(n.RTA_OIF, route.link))
    return b"".join(parts)


def _packed_hop(hop: Hop, family: Family) -> bytes:
    gateway = b"" if hop.gateway is None else _packed_gateway(hop.gateway, family)
    length = RTNEXTHOP.size + len(gateway)
    return RTNEXTHOP.pack(length, hop.flags, hop.weight - 1, hop.link) + gateway


def _packed_gateway(gateway: Address, family: Family) -> bytes:
    packed = packed_address(gateway)
    if gateway.family == family:
        return attribute(n.RTA_GATEWAY, packed)
    # RFC 5549: an IPv4 route via an IPv6 gateway.
    return attribute(n.RTA_VIA, RTVIA.pack(AF_OF[gateway.family]) + packed)


def clear_route(destination: Cidr, table: int) -> Request:
    """Delete the route to a destination, whatever the next hop."""
    family = destination.family
    wildcards = (0, n.RT_SCOPE_NOWHERE, 0, 0)
    body = RTMSG.pack(AF_OF[family], destination.prefix_length, 0, 0, n.RT_TABLE_UNSPEC, *wildcards)
    first = destination.first.to_bytes(ADDRESS_BITS[family] // 8, "big")
    body += attribute_u32(n.RTA_TABLE, table) + attribute(n.RTA_DST, first)
    return Request(n.RTM_DELROUTE, 0, body, "clear the route to", destination, GONE)


# ------------------------------------------------------------------------------------ rules


def add_rule(rule: RoutingRule) -> Request:
    """Add a policy rule."""
    return Request(n.RTM_NEWRULE, NEW_FLAGS, _rule_body(rule), "add rule", rule, EXISTS)


def _rule_body(rule: RoutingRule) -> bytes:
    source, destination = rule.source, rule.destination
    body = FIB_RULE_HDR.pack(
        AF_OF[rule.family],
        destination.prefix_length if destination else 0,
        source.prefix_length if source else 0,
        0,
        rule.table if rule.table < n.RT_TABLE_COMPAT else n.RT_TABLE_UNSPEC,
        0,
        0,
        n.FR_ACT_TO_TBL,
        0,
    )
    size = ADDRESS_BITS[rule.family] // 8
    parts = [body, attribute_u32(n.FRA_TABLE, rule.table)]
    if rule.priority:
        parts.append(attribute_u32(n.FRA_PRIORITY, rule.priority))
    if source is not None:
        parts.append(attribute(n.FRA_SRC, source.first.to_bytes(size, "big")))
    if destination is not None:
        parts.append(attribute(n.FRA_DST, destination.first.to_bytes(size, "big")))
    if rule.mark:
        parts.append(attribute_u32(n.FRA_FWMARK, rule.mark))
        parts.append(attribute_u32(n.FRA_FWMASK, rule.mask or ALL_BITS))
    if rule.incoming:
        parts.append(attribute_text(n.FRA_IIFNAME, rule.incoming))
    if rule.outgoing:
        parts.append(attribute_text(n.FRA_OIFNAME, rule.outgoing))
    return b"".join(parts)


# ------------------------------------------------------------------------------- neighbours


def set_neighbour(entry: Neighbour) -> Request:
    """Add or replace a neighbour entry."""
    flags = n.NLM_F_CREATE | n.NLM_F_REPLACE
    return Request(n.RTM_NEWNEIGH, flags, _neighbour_body(entry), "set neighbour", entry)


def delete_neighbour(entry: Neighbour) -> Request:
    """Delete a neighbour entry."""
    body = _neighbour_body(entry._replace(mac=b""))
    return Request(n.RTM_DELNEIGH, 0, body, "delete neighbour", entry, GONE)


def _neighbour_body(entry: Neighbour) -> bytes:
    body = NDMSG.pack(AF_OF[entry.address.family], entry.link, entry.state, 0, n.RTN_UNICAST)
    body += attribute(n.NDA_DST, packed_address(entry.address))
    return body + attribute(n.NDA_LLADDR, entry.mac) if entry.mac else body


# ------------------------------------------------------------------------------------ dumps
# ``family`` None: both families.


def all_links() -> Request:
    """List all links."""
    body = IFINFOMSG.pack(0, 0, 0, 0, 0) + _link_filter()
    return Request(n.RTM_GETLINK, n.NLM_F_DUMP, body, "list links")


def all_addresses(family: Family | None = None) -> Request:
    """List addresses."""
    body = IFADDRMSG.pack(_af(family), 0, 0, 0, 0)
    return Request(n.RTM_GETADDR, n.NLM_F_DUMP, body, f"list {_family_text(family)}addresses")


def all_routes(family: Family | None, table: int) -> Request:
    """List the routes of a table (0: all tables)."""
    body = RTMSG.pack(_af(family), 0, 0, 0, 0, 0, 0, 0, 0)
    if table:
        body += attribute_u32(n.RTA_TABLE, table)
    # ENOENT: an IPv4 table that never had a route does not exist.
    what = f"list {_family_text(family)}routes"
    return Request(n.RTM_GETROUTE, n.NLM_F_DUMP, body, what, "", frozenset({ENOENT}))


def all_rules(family: Family | None = None) -> Request:
    """List policy rules."""
    body = FIB_RULE_HDR.pack(_af(family), 0, 0, 0, 0, 0, 0, 0, 0)
    return Request(n.RTM_GETRULE, n.NLM_F_DUMP, body, f"list {_family_text(family)}rules")


def all_neighbours(family: Family | None = None) -> Request:
    """List neighbour entries."""
    body = NDMSG.pack(_af(family), 0, 0, 0, 0)
    return Request(n.RTM_GETNEIGH, n.NLM_F_DUMP, body, f"list {_family_text(family)}neighbours")


def _af(family: Family | None) -> int:
    return n.AF_UNSPEC if family is None else AF_OF[family]


def _family_text(family: Family | None) -> str:
    return "" if family is None else f"IPv{family} "


def packed_address(address: Address) -> bytes:
    """The address as bytes in network order."""
    return address.value.to_bytes(4 if address.family == 4 else 16, "big")

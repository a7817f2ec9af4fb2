"""Links, addresses, routes, rules and neighbours of a network namespace.

A field ``link`` is an ifindex.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from core.domain.addresses.ip_address import Address, Cidr, Family
from nodeagent.netlink.numbers import (
    IFF_BROADCAST,
    IFF_LOOPBACK,
    IFF_MULTICAST,
    IFF_UP,
    NUD_PERMANENT,
    RT_SCOPE_UNIVERSE,
    RT_TABLE_MAIN,
    RTN_UNICAST,
    RTPROT_BOOT,
)

Mac = bytes
"""A MAC address; six bytes on Ethernet."""


INFINIBAND_ADDRESS_BYTES: Final = 20
"""INFINIBAND_ALEN: 4 bytes of flags and queue pair number, 8 of subnet, 8 of port GUID."""


class Link(NamedTuple):
    """A network interface.

    ``parent``: the peer of a veth, or the lower device of a macvlan or VLAN. ``parent_netns``: the
    kernel's id of the parent's namespace; None if the parent is in the link's namespace.
    ``master``: the bond or bridge of the link. ``data``: IFLA_INFO_DATA.
    """

    ifindex: int
    name: str
    flags: int = 0
    kind: str = ""
    mac: Mac = b""
    mtu: int = 0
    tx_queue_len: int = 0
    parent: int = 0
    parent_netns: int | None = None
    master: int = 0
    operstate: int = 0
    promiscuity: int = 0
    data: bytes = b""

    @property
    def up(self) -> bool:
        """Administratively up, even without a carrier."""
        return bool(self.flags & IFF_UP)

    @property
    def loopback(self) -> bool:
        """Whether the link is ``lo``."""
        return bool(self.flags & IFF_LOOPBACK)

    @property
    def broadcasts(self) -> bool:
        """Whether the link is up, and supports broadcast and multicast."""
        required = IFF_UP | IFF_BROADCAST | IFF_MULTICAST
        return self.flags & required == required


class LinkAddress(NamedTuple):
    """An address of a link. ``flags`` are IFA_F_*; ``scope`` is RT_SCOPE_*."""

    link: int
    address: Address
    prefix_length: int
    scope: int = RT_SCOPE_UNIVERSE
    flags: int = 0

    def __str__(self) -> str:
        return f"{self.address}/{self.prefix_length} on link {self.link}"


class Hop(NamedTuple):
    """A next hop of a multipath route. ``flags`` are RTNH_F_*."""

    link: int
    gateway: Address | None = None
    weight: int = 1
    flags: int = 0


class KernelRoute(NamedTuple):
    """A route. A multipath route uses ``hops`` instead of ``link`` and ``gateway``.

    ``metric`` is RTA_PRIORITY: for IPv6 the kernel replaces 0 by 1024. ``metrics`` is RTA_METRICS.
    """

    destination: Cidr
    link: int = 0
    gateway: Address | None = None
    table: int = RT_TABLE_MAIN
    source: Address | None = None
    scope: int = RT_SCOPE_UNIVERSE
    protocol: int = RTPROT_BOOT
    kind: int = RTN_UNICAST
    metric: int = 0
    flags: int = 0
    metrics: bytes = b""
    hops: tuple[Hop, ...] = ()

    @property
    def family(self) -> Family:
        """The destination's address family."""
        return self.destination.family

    @property
    def is_default(self) -> bool:
        """Whether the destination is 0.0.0.0/0 or ::/0."""
        return self.destination.prefix_length == 0

    @property
    def links(self) -> tuple[int, ...]:
        """The output links."""
        return tuple(hop.link for hop in self.hops) or (self.link,)

    def __str__(self) -> str:
        parts = [str(self.destination)]
        for hop in self.hops or (Hop(self.link, self.gateway),):
            parts += [f"via {hop.gateway}"] if hop.gateway else []
            parts.append(f"on link {hop.link}")
        return " ".join((*parts, f"table {self.table}"))


class RoutingRule(NamedTuple):
    """A policy rule. ``mask`` 0: all bits of ``mark`` are compared."""

    family: Family
    table: int
    priority: int
    source: Cidr | None = None
    destination: Cidr | None = None
    mark: int = 0
    mask: int = 0
    incoming: str = ""
    outgoing: str = ""

    def __str__(self) -> str:
        parts = [f"{self.priority}:"]
        parts += [f"from {self.source}"] if self.source else []
        parts += [f"to {self.destination}"] if self.destination else []
        parts += [f"fwmark {self.mark:#x}"] if self.mark else []
        return " ".join((*parts, f"lookup {self.table}"))


class Neighbour(NamedTuple):
    """A neighbour entry. ``state`` is NUD_*."""

    link: int
    address: Address
    mac: Mac
    state: int = NUD_PERMANENT

    def __str__(self) -> str:
        return f"{self.address} on link {self.link}"


def mac_text(mac: Mac) -> str:
    """A MAC address as text, such as ``0a:1b:ac:12:1e:8b``."""
    return mac.hex(":")


def host_prefix(address: Address) -> Cidr:
    """The address as /32 or /128."""
    family, value = address
    length = 32 if family == 4 else 128
    return Cidr(family, first=value, last=value, prefix_length=length, address=value)


def default_prefix(family: Family) -> Cidr:
    """The prefix of a default route."""
    last = 2**32 - 1 if family == 4 else 2**128 - 1
    return Cidr(family, first=0, last=last, prefix_length=0, address=0)

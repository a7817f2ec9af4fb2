"""What the coordinator has read: the Pod's network stack and what matters of the node's.

Plain values; nothing here reads or decides. A Pod's addresses are the global unicast ones:
link-local and multicast addresses never count (docs/reference/coordinator.md, "Inputs").
"""

from __future__ import annotations

from typing import Final, NamedTuple

from core.domain.addresses.ip_address import Address, Family
from nodeagent.netlink.values import KernelRoute, Link, LinkAddress, Mac, Neighbour, RoutingRule

VETH: Final = "veth0"
"""The Pod's end of the pair that underlay Pods reach their node through."""

_MULTICAST: Final = {4: (0xE0000000, 0xF0000000), 6: (0xFF << 120, 0xFF << 120)}
_LINK_LOCAL: Final = {4: (0xA9FE0000, 0xFFFF0000), 6: (0xFE80 << 112, 0xFFC0 << 112)}


class PodStack(NamedTuple):
    """The Pod's side. ``interface`` is the NIC of this call; ``routes`` are those of main."""

    interface: Link
    links: tuple[Link, ...]
    addresses: tuple[LinkAddress, ...]
    routes: tuple[KernelRoute, ...]
    rules: tuple[RoutingRule, ...]

    def link(self, name: str) -> Link | None:
        """The link of that name."""
        return next((link for link in self.links if link.name == name), None)

    def addresses_of(self, link: int) -> tuple[Address, ...]:
        """The addresses of a link, IPv4 before IPv6, each family in the kernel's order."""
        return tuple(each.address for each in self.addresses if each.link == link)

    @property
    def current(self) -> tuple[Address, ...]:
        """The addresses of the NIC of this call."""
        return self.addresses_of(self.interface.number)

    @property
    def families(self) -> tuple[Family, ...]:
        """The families of this call: those of its NIC's addresses."""
        return tuple(sorted({address.family for address in self.current}))


class HostStack(NamedTuple):
    """The node's side.

    ``node_addresses``: this node's addresses that the Pod must reach, the gateways first, without
    duplicates (docs/reference/coordinator.md, "Node addresses"). ``stale``: entries for the Pod's
    addresses, on any link.
    """

    node_addresses: tuple[Address, ...]
    stale: tuple[Neighbour, ...] = ()

    def gateway(self, family: Family) -> Address | None:
        """The node's address that hijacked traffic of a family goes to."""
        return next((each for each in self.node_addresses if each.family == family), None)


class VethPair(NamedTuple):
    """The wire between Pod and node: ``veth0`` in underlay, eth0 in overlay, and the host's end."""

    pod: int
    pod_mac: Mac
    host: int
    host_mac: Mac
    host_name: str


def is_pod_address(address: Address) -> bool:
    """Whether an address on a link counts: unicast, and not link-local."""
    for values in (_MULTICAST, _LINK_LOCAL):
        prefix, mask = values[address.family]
        if address.value & mask == prefix:
            return False
    return True

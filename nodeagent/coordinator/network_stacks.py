"""The network stacks of a Pod and of the node."""

from __future__ import annotations

from typing import Final, NamedTuple

from core.domain.addresses.ip_address import Address, Family
from nodeagent.netlink.values import KernelRoute, Link, LinkAddress, Mac, Neighbour, RoutingRule

POD_VETH: Final = "veth0"
"""The Pod's end of the veth pair between an underlay Pod and its node."""

_MULTICAST: Final = {4: (0xE0000000, 0xF0000000), 6: (0xFF << 120, 0xFF << 120)}
_LINK_LOCAL: Final = {4: (0xA9FE0000, 0xFFFF0000), 6: (0xFE80 << 112, 0xFFC0 << 112)}


class PodStack(NamedTuple):
    """The Pod's stack. ``interface``: the NIC of this call. ``routes``: those of table main."""

    interface: Link
    links: tuple[Link, ...]
    addresses: tuple[LinkAddress, ...]
    routes: tuple[KernelRoute, ...]
    rules: tuple[RoutingRule, ...]

    def link(self, name: str) -> Link | None:
        """The link with this name, or None."""
        return next((link for link in self.links if link.name == name), None)

    def addresses_of(self, link: int) -> tuple[Address, ...]:
        """The addresses of a link: first IPv4, then IPv6, each in the kernel's order."""
        return tuple(entry.address for entry in self.addresses if entry.link == link)

    @property
    def nic_addresses(self) -> tuple[Address, ...]:
        """The addresses of the NIC of this call."""
        return self.addresses_of(self.interface.ifindex)

    @property
    def families(self) -> tuple[Family, ...]:
        """The address families of the NIC of this call."""
        return tuple(sorted({address.family for address in self.nic_addresses}))


class HostStack(NamedTuple):
    """The node's stack. ``node_addresses``: the node's addresses that the Pod must reach.

    ``gateway`` returns the first node address of a family. ``stale_neighbours``: entries for
    the Pod's addresses that earlier Pods left.
    """

    node_addresses: tuple[Address, ...]
    stale_neighbours: tuple[Neighbour, ...] = ()

    def gateway(self, family: Family) -> Address | None:
        """The node's address to which the Pod sends hijacked traffic, or None."""
        of_family = (address for address in self.node_addresses if address.family == family)
        return next(of_family, None)


class VethPair(NamedTuple):
    """The veth pair between a Pod and the node. ``pod`` and ``host``: interface indexes.

    The Pod's end is ``veth0`` in underlay mode, and the first NIC in overlay mode.
    """

    pod: int
    pod_mac: Mac
    host: int
    host_mac: Mac
    host_name: str


def is_routable_unicast(address: Address) -> bool:
    """Whether an address is neither multicast nor link-local."""
    for values in (_MULTICAST, _LINK_LOCAL):
        prefix, mask = values[address.family]
        if address.value & mask == prefix:
            return False
    return True

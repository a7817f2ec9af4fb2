"""The network between the nodes: one bridge in a namespace of its own, a wire to every node.

The bridge is also the router of the Pods' networks: it has their gateways' addresses. Addresses of
nodes are from TEST-NET-1 (RFC 5737), so that nothing here can be mistaken for a network of yours.
"""

from __future__ import annotations

from typing import Final

from ops.lab.namespaces import NamedNamespace

BRIDGE: Final = "br0"
UPLINK: Final = "eth0"
"""The interface of a node, and the master of its macvlans."""

NODES_MAX: Final = 200
_ADDRESS: Final = "192.0.2.1"
_PREFIX: Final = "192.0.2"
_PREFIX_BITS: Final = 24
_FIRST_NODE: Final = 11


class Fabric:
    """One bridge."""

    def __init__(self, namespace: NamedNamespace) -> None:
        self.namespace = namespace
        self._nodes = 0

    @property
    def address(self) -> str:
        """Where nodes find what runs in the fabric's namespace."""
        return _ADDRESS

    def create(self) -> None:
        """Make namespace and bridge. Raises LabFailed."""
        self.namespace.create()
        # Snooping would need a querier before neighbour solicitations reach anybody.
        self.namespace.ip("link", "add", BRIDGE, "type", "bridge", "mcast_snooping", "0")
        self.namespace.ip("link", "set", BRIDGE, "up")
        self.gateway(f"{_ADDRESS}/{_PREFIX_BITS}")

    def gateway(self, cidr: str) -> None:
        """Give the bridge an address with its prefix length. Raises LabFailed."""
        nodad = ["nodad"] if ":" in cidr else []
        self.namespace.ip("address", "add", cidr, "dev", BRIDGE, *nodad)

    def join(self, node: NamedNamespace, name: str) -> str:
        """Wire a node to the bridge; its address. Raises LabFailed."""
        assert self._nodes < NODES_MAX, "the network of the nodes is full"
        address = f"{_PREFIX}.{_FIRST_NODE + self._nodes}"
        self._nodes += 1
        port = self.port(name)
        # The far end is made where it belongs: moving a link costs the kernel a grace period.
        self.namespace.ip(
            *("link", "add", port, "type", "veth"),
            *("peer", "name", UPLINK, "netns", node.name),
        )
        self.namespace.ip("link", "set", port, "master", BRIDGE, "up")
        node.ip("address", "add", f"{address}/{_PREFIX_BITS}", "dev", UPLINK)
        node.ip("link", "set", UPLINK, "up")
        return address

    def cut(self, name: str) -> None:
        """Pull a node's plug: it reaches nobody, and nobody reaches it. Raises LabFailed."""
        self.namespace.ip("link", "set", self.port(name), "down")

    def mend(self, name: str) -> None:
        """Put the plug back. Raises LabFailed."""
        self.namespace.ip("link", "set", self.port(name), "up")

    def port(self, name: str) -> str:
        """The bridge's end of a node's wire."""
        return f"to-{name}"

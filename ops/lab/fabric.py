"""The network between the nodes: one bridge in its own namespace, a veth pair to every node.

The bridge is also the router of the Pods. Nodes have addresses of TEST-NET-1 (RFC 5737), which no
real network uses.
"""

from __future__ import annotations

from ipaddress import ip_interface
from pathlib import Path
from typing import Any, Final

from nodeagent.netlink.numbers import IFA_F_NODAD
from ops.lab.identity import LabFailed
from ops.lab.namespaces import NamedNamespace

FABRIC_BRIDGE: Final = "br0"
NODE_UPLINK: Final = "eth0"
"""The interface of a node, and the master of its macvlans."""

NODES_MAX: Final = 200

_ADDRESS: Final = "192.0.2.1"
_PREFIX: Final = "192.0.2"
_PREFIX_BITS: Final = 24
_FIRST_NODE: Final = 11


class Fabric:
    """The network between the nodes."""

    def __init__(self, namespace: NamedNamespace) -> None:
        self.namespace = namespace
        self._node_count = 0

    @property
    def address(self) -> str:
        """The address at which nodes reach the namespace of the fabric."""
        return _ADDRESS

    def create(self) -> None:
        """Create the namespace and the bridge. Raises LabFailed."""
        self.namespace.create()
        self.namespace.netlink(_add_bridge)
        self.add_gateway(f"{_ADDRESS}/{_PREFIX_BITS}")

    def add_gateway(self, cidr: str) -> None:
        """Add the address of a gateway, with prefix length, to the bridge. Raises LabFailed."""
        self.namespace.netlink(lambda route: _add_address(route, FABRIC_BRIDGE, cidr))

    def connect(self, node: NamedNamespace, name: str) -> str:
        """Connect a node to the bridge; return the node's address. Raises LabFailed."""
        assert self._node_count < NODES_MAX, "the network of the nodes is full"
        address = f"{_PREFIX}.{_FIRST_NODE + self._node_count}"
        self._node_count += 1
        self.namespace.netlink(lambda route: _add_port(route, self.port(name), node.path))
        node.netlink(lambda route: _add_address(route, NODE_UPLINK, f"{address}/{_PREFIX_BITS}"))
        _set_state(node, NODE_UPLINK, "up")
        return address

    def disconnect(self, name: str) -> None:
        """Disconnect a node from the network. Raises LabFailed."""
        _set_state(self.namespace, self.port(name), "down")

    def reconnect(self, name: str) -> None:
        """Connect a node again. Raises LabFailed."""
        _set_state(self.namespace, self.port(name), "up")

    def port(self, name: str) -> str:
        """The name of the interface that connects the bridge to a node."""
        return f"to-{name}"


# ``route`` is an ``IPRoute`` of pyroute2, which has no types.


def _add_bridge(route: Any) -> None:  # noqa: ANN401
    # With multicast snooping the bridge would drop neighbour solicitations, because no router here
    # sends multicast queries.
    route.link("add", ifname=FABRIC_BRIDGE, kind="bridge", br_mcast_snooping=0, state="up")


def _add_port(route: Any, port: str, node: Path) -> None:  # noqa: ANN401
    # The peer is created in the node, because the kernel takes long to move a link.
    peer = {"ifname": NODE_UPLINK, "net_ns_fd": str(node)}
    route.link("add", ifname=port, kind="veth", peer=peer)
    route.link("set", index=_index(route, port), master=_index(route, FABRIC_BRIDGE), state="up")


def _add_address(route: Any, link: str, cidr: str) -> None:  # noqa: ANN401
    address = ip_interface(cidr)
    flags = IFA_F_NODAD if address.version == 6 else 0
    prefix_length = address.network.prefixlen
    index = _index(route, link)
    route.addr("add", index=index, address=str(address.ip), prefixlen=prefix_length, flags=flags)


def _set_state(namespace: NamedNamespace, link: str, state: str) -> None:
    namespace.netlink(lambda route: route.link("set", index=_index(route, link), state=state))


def _index(route: Any, link: str) -> int:  # noqa: ANN401
    indexes = route.link_lookup(ifname=link)
    if not indexes:
        raise LabFailed(f"there is no link {link}")
    return int(indexes[0])

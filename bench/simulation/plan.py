"""The plan of the simulated cluster: nodes in racks, pools of each rack, Pods of each node.

Every rack has its own default pool, as in datacentres with a subnet per rack; further pools are for
other networks of the same racks. Plain values without I/O.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from core.domain.addresses.ip_address import format_address, parse_address
from core.domain.facts import NamespaceFacts, NodeFacts, PodFacts, RequestFacts
from core.domain.model import Pool

RACK_NODES: Final = 40
NAMESPACE: Final = "shop"
SPARE_SHARE: Final = 0.25
"""Addresses of a rack's pool beyond its Pods: at the end of a start four fifths are taken."""

POOLS_MAX: Final = 250
"""Each pool has a /16 of 10.0.0.0/8."""


class Size(NamedTuple):
    """A cluster and what happens to it.

    ``pods``: of each node when the cluster starts; ``rack_pods``: of each node of the rack that is
    lost. ``changes``: pools that change one after the other, ``change_pause_s`` apart.
    """

    nodes: int
    pools: int
    pods: int
    rack_pods: int
    changes: int
    change_pause_s: float

    @property
    def racks(self) -> int:
        """Racks, the last of which may be smaller."""
        return -(-self.nodes // RACK_NODES)

    @property
    def lost(self) -> range:
        """The numbers of the nodes in the rack that is lost."""
        return _nodes_of_rack(self, 0)


def node_name(number: int) -> str:
    """The name of a node."""
    return f"node-{number:04d}"


def pools_of(size: Size, more: int = 0) -> list[Pool]:
    """The pools of the cluster, each with addresses for the Pods of a rack and ``more`` besides."""
    assert size.racks <= size.pools <= POOLS_MAX, size
    addresses = addresses_for(size.pods) + more
    return [rack_pool(size, number, addresses) for number in range(size.pools)]


def addresses_for(pods: int) -> int:
    """The number of addresses of a rack with this number of Pods on each node."""
    return int(RACK_NODES * pods * (1 + SPARE_SHARE))


def rack_pool(size: Size, number: int, addresses: int) -> Pool:
    """A pool for the nodes of its rack; the first pool of each rack is a default pool."""
    layer, rack = divmod(number, size.racks)
    first = parse_address(f"10.{number}.0.2").value
    last = format_address(4, first + addresses - 1)
    return Pool(
        f"rack-{rack:03d}-{layer}",
        4,
        f"10.{number}.0.0/16",
        (f"10.{number}.0.2-{last}",),
        gateway=f"10.{number}.0.1",
        node_names=tuple(node_name(one) for one in _nodes_of_rack(size, rack)),
        default=layer == 0,
    )


def facts_of(node: int, serial: int) -> RequestFacts:
    """The facts that an agent has of a Pod of its node."""
    name, host = f"web-{node:04d}-{serial:03d}", node_name(node)
    pod = PodFacts(NAMESPACE, name, f"uid-{name}-4f2c-9d31-7b60a1e2c584", host)
    return RequestFacts(pod, NamespaceFacts(NAMESPACE), NodeFacts(host))


def _nodes_of_rack(size: Size, rack: int) -> range:
    return range(rack * RACK_NODES, min((rack + 1) * RACK_NODES, size.nodes))

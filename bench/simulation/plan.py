"""The plan of the simulated cluster: nodes in racks, pools of each rack, Pods of each node."""

from __future__ import annotations

import math
from typing import Final, NamedTuple

from core.domain.addresses.ip_address import format_address, parse_address
from core.domain.model import Pool
from core.domain.request_facts import NamespaceFacts, NodeFacts, PodFacts, RequestFacts

RACK_NODES: Final = 40
NAMESPACE: Final = "shop"
SPARE_SHARE: Final = 0.25
"""Spare addresses in a rack's pool, as a share of the rack's Pods."""

POOLS_MAX: Final = 250
"""Each pool has one /16 of 10.0.0.0/8."""

RACK_PODS_MAX: Final = 1_300
"""Pods on each node of a rack: with spare addresses, the Pods of a rack fit into a /16."""


class Size(NamedTuple):
    """The size of a cluster and its incidents.

    ``pods``: Pods of a node at the start. ``rack_pods``: Pods of a node in the lost rack.
    ``changes``: the number of changes of pools, one every ``change_pause_s`` seconds.
    """

    nodes: int
    pools: int
    pods: int
    rack_pods: int
    changes: int
    change_pause_s: float

    @property
    def racks(self) -> int:
        """The number of racks; the last rack may be smaller."""
        return math.ceil(self.nodes / RACK_NODES)

    @property
    def lost_nodes(self) -> range:
        """The nodes in the rack that is lost."""
        return _nodes_of_rack(self, 0)


def node_name(number: int) -> str:
    """The name of a node."""
    return f"node-{number:04d}"


def pools_of(size: Size, more: int = 0) -> list[Pool]:
    """The pools, each with addresses for a rack and ``more`` addresses."""
    assert size.racks <= size.pools <= POOLS_MAX, size
    addresses = addresses_for(size.pods) + more
    return [rack_pool(size, number, addresses) for number in range(size.pools)]


def addresses_for(pods: int) -> int:
    """The addresses for a rack with ``pods`` on each node, spare addresses included."""
    return int(RACK_NODES * pods * (1 + SPARE_SHARE))


def rack_pool(size: Size, number: int, addresses: int) -> Pool:
    """The pool ``number``. Only the first pool of a rack is a default pool."""
    pool_of_rack, rack = divmod(number, size.racks)
    first = parse_address(f"10.{number}.0.2").value
    last = format_address(4, first + addresses - 1)
    return Pool(
        f"rack-{rack:03d}-{pool_of_rack}",
        4,
        f"10.{number}.0.0/16",
        (f"10.{number}.0.2-{last}",),
        gateway=f"10.{number}.0.1",
        node_names=tuple(node_name(node) for node in _nodes_of_rack(size, rack)),
        default=pool_of_rack == 0,
    )


def facts_of(node: int, serial: int) -> RequestFacts:
    """The facts about a Pod on a node."""
    name, host = f"web-{node:04d}-{serial:03d}", node_name(node)
    pod = PodFacts(NAMESPACE, name, f"uid-{name}-4f2c-9d31-7b60a1e2c584", host)
    return RequestFacts(pod, NamespaceFacts(NAMESPACE), NodeFacts(host))


def _nodes_of_rack(size: Size, rack: int) -> range:
    return range(rack * RACK_NODES, min((rack + 1) * RACK_NODES, size.nodes))

"""Packets arrive, with Pods of an overlay like Calico's.

See docs/reference/networks.md, "Traffic".

M is a Pod with a macvlan eth0, C one of the overlay alone, CM one of both: its net1 is a macvlan.
Everything is tried with main's default route on either NIC of CM.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any, Final

import pytest

from ops.lab.namespaces import NamedNamespace
from tests.support.network_harness import (
    OUTSIDE,
    SERVICES,
    NetworkHarness,
    NetworkNode,
    NetworkPod,
    batch,
)

pytestmark = pytest.mark.netns

SAID: Final[dict[str, Any]] = {
    "serviceCIDR": list(SERVICES),
    "overlayPodCIDR": ["10.244.0.0/16", "fd00:244::/48"],
}
CLUSTER_IPS: Final = ("10.96.0.10", "fd00:96::10")
OF_C: Final = ("10.244.2.5", "fd00:244:0:2::5")
OF_CM: Final = ("10.244.1.5", "fd00:244:0:1::5")
RAIL_OF_CM: Final = ("10.6.0.101", "fd00:6::101")
OF_M: Final = ("10.6.0.102", "fd00:6::102")
FAMILIES = pytest.mark.parametrize("family", [0, 1], ids=["IPv4", "IPv6"])
_ports: Final = itertools.count(2_000)


class Overlay:
    """CM on the first node, C and M on the second; each node knows the way to the other's Pods."""

    def __init__(self, network: NetworkHarness, default_nic: str) -> None:
        self.network = network
        self.default_nic = default_nic
        self.outside = network.outside()
        self.nodes = (network.node("n1"), network.node("n2"))
        first, second = self.nodes
        for node, other, number in ((first, second, 2), (second, first, 1)):
            batch(
                node.inside,
                f"route add 10.244.{number}.0/24 via {other.addresses[0]}",
                f"route add fd00:244:0:{number}::/64 via {other.addresses[1]}",
            )
        self.cm = network.pod(self.nodes[0], "cm")
        self.cm.calico(*OF_CM)
        self.cm.macvlan("net1", f"{RAIL_OF_CM[0]}/24", f"{RAIL_OF_CM[1]}/64")
        self.cm.add("net1", podDefaultRouteNic=default_nic, **SAID)
        self.c = network.pod(self.nodes[1], "c")
        self.c.calico(*OF_C)
        self.m = network.underlay(self.nodes[1], 102, **SAID)

    def seen(self, source: NamedNamespace, pod: NetworkPod, own: str) -> str:
        """Who a Pod sees that is said hello to at this address of its."""
        port = next(_ports)
        server = self.network.listen(pod.inside, own, port)
        return self.network.client_address_seen(source, server, own, port)

    def seen_behind(self, source: NetworkPod, family: int, pod: NetworkPod, own: str) -> str:
        """As ``seen``, through a Service of the source's node."""
        port = next(_ports)
        source.node.service(CLUSTER_IPS[family], port, own, 8080 + port)
        server = self.network.listen(pod.inside, own, 8080 + port)
        return self.network.client_address_seen(source.inside, server, CLUSTER_IPS[family], port)


@pytest.fixture(scope="module", params=["eth0", "net1"])
def overlay(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Overlay]:
    network = NetworkHarness(tmp_path_factory.mktemp("overlay"))
    yield Overlay(network, request.param)
    network.close()


@FAMILIES
def test_cm_reaches_the_overlay_by_eth0_and_the_datacentre_by_net1(
    overlay: Overlay, family: int
) -> None:
    cm = overlay.cm.inside
    assert overlay.seen(cm, overlay.c, OF_C[family]) == OF_CM[family]
    assert overlay.seen(cm, overlay.m, OF_M[family]) == RAIL_OF_CM[family]


@FAMILIES
def test_cm_is_reached_at_either_address_from_where_that_is_known(
    overlay: Overlay, family: int
) -> None:
    cm, node = overlay.cm, overlay.nodes[0]
    assert overlay.seen(overlay.m.inside, cm, RAIL_OF_CM[family]) == OF_M[family]
    assert overlay.seen(overlay.c.inside, cm, OF_CM[family]) == OF_C[family]
    assert overlay.seen(overlay.outside, cm, RAIL_OF_CM[family]) == OUTSIDE[family]
    for own in (OF_CM[family], RAIL_OF_CM[family]):
        assert overlay.seen(node.inside, cm, own) == node.addresses[family]


@FAMILIES
@pytest.mark.parametrize("backend", ["m", "c", "cm"])
def test_m_and_cm_reach_services_by_their_nodes(
    overlay: Overlay, backend: str, family: int
) -> None:
    pod: NetworkPod = getattr(overlay, backend)
    own = {"m": OF_M, "c": OF_C, "cm": OF_CM}[backend][family]
    for source in (overlay.m, overlay.cm):
        seen = overlay.seen_behind(source, family, pod, own)
        assert seen == source.node.addresses[family], "the node asks in its own name"


@FAMILIES
def test_a_node_port_of_cm_is_answered_by_eth0(overlay: Overlay, family: int) -> None:
    # The client's address is kept, and also with the default route on net1 nothing leaves there.
    node, port = overlay.nodes[0], next(_ports)
    node.node_port(family, port, OF_CM[family], port)
    server = overlay.network.listen(overlay.cm.inside, OF_CM[family], port)
    seen = overlay.network.client_address_seen(
        overlay.outside, server, node.addresses[family], port
    )
    assert seen == OUTSIDE[family]


@FAMILIES
def test_where_each_destination_goes(overlay: Overlay, family: int) -> None:
    """C00005, C00006, C00011, C00012."""
    cm, default = overlay.cm.inside, overlay.default_nic
    expected = {
        ("8.8.8.8", "2001:db8::8")[family]: default,
        ("10.244.1.6", "fd00:244:0:1::6")[family]: "eth0",
        ("10.6.0.9", "fd00:6::9")[family]: "net1",
        CLUSTER_IPS[family]: "eth0",
        overlay.nodes[0].addresses[family]: "eth0",
    }
    found = {destination: way(cm, destination) for destination in expected}
    assert found == expected


@pytest.mark.parametrize(
    ("further", "settings"),
    [(2, {}), (3, {"podRPFilter": 1})],
    ids=["two NICs", "three NICs, strict filter"],
)
def test_every_further_nic_is_answered_where_it_was_asked(
    network: NetworkHarness, network_node: NetworkNode, further: int, settings: dict[str, Any]
) -> None:
    """C00013, C00020, C00021."""
    outside = network.outside()
    pod = network.pod(network_node)
    pod.calico(*OF_CM)
    other = network.underlay(network.node("n2"), 102, **SAID)
    own = []
    for number in range(1, further + 1):
        # The second network, so that what is asked comes by way of the router.
        four, six = f"10.7.0.{100 + number}", f"fd00:7::{100 + number}"
        pod.macvlan(f"net{number}", f"{four}/24", f"{six}/64")
        assert pod.add(f"net{number}", **SAID, **settings).table == 100 + number
        own += [four, six]
    for address in own:
        port, family = next(_ports), int(":" in address)
        server = network.listen(pod.inside, address, port)
        assert network.client_address_seen(outside, server, address, port) == OUTSIDE[family]
        assert network.client_address_seen(other.inside, server, address, port) == OF_M[family]
        assert (
            network.client_address_seen(network_node.inside, server, address, port)
            == network_node.addresses[family]
        )


def test_an_eth0_of_another_overlay_is_a_wire_as_well(
    network: NetworkHarness, network_node: NetworkNode
) -> None:
    """As Cilium makes it, whose ends on the node count for nothing as the node's addresses."""
    pod = network.pod(network_node)
    pod.calico(*OF_CM, prefix="lxc")
    pod.macvlan("net1", "10.6.0.101/24", "fd00:6::101/64")
    pod.add("net1", **SAID)
    assert f"dev lxc{pod.container[:11]}" in network_node.inside.ip("route", "get", "10.6.0.101")
    for address in network_node.addresses:
        assert pod.pings(address)


def way(namespace: NamedNamespace, destination: str) -> str:
    """The link that a packet to there leaves by."""
    words = namespace.ip("route", "get", destination).split()
    return words[words.index("dev") + 1]

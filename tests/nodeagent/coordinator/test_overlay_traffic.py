"""Traffic of Pods in an overlay like Calico's; see docs/reference/networks.md, "Traffic".

- M: a Pod with a macvlan eth0
- C: a Pod of the overlay
- CM: a Pod of the overlay with a macvlan net1

The fixture ``overlay`` runs a test twice: with CM's default route on eth0, and on net1.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any, Final

import pytest

from ops.lab.namespaces import NamedNamespace
from tests.support.network_harness import (
    OUTSIDE_ADDRESSES,
    SERVICE_CIDRS,
    NetworkHarness,
    NetworkNode,
    NetworkPod,
    batch,
)

pytestmark = pytest.mark.netns

CONF: Final[dict[str, Any]] = {
    "serviceCIDR": list(SERVICE_CIDRS),
    "overlayPodCIDR": ["10.244.0.0/16", "fd00:244::/48"],
}
CLUSTER_IPS: Final = ("10.96.0.10", "fd00:96::10")
C_OVERLAY: Final = ("10.244.2.5", "fd00:244:0:2::5")
CM_OVERLAY: Final = ("10.244.1.5", "fd00:244:0:1::5")
CM_UNDERLAY: Final = ("10.6.0.101", "fd00:6::101")
M_UNDERLAY: Final = ("10.6.0.102", "fd00:6::102")
FAMILIES = pytest.mark.parametrize("family", [0, 1], ids=["IPv4", "IPv6"])

_ports: Final = itertools.count(2_000)


class Overlay:
    """CM on node n1; C and M on node n2."""

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
        self.cm.calico(*CM_OVERLAY)
        self.cm.macvlan("net1", f"{CM_UNDERLAY[0]}/24", f"{CM_UNDERLAY[1]}/64")
        self.cm.add("net1", podDefaultRouteNic=default_nic, **CONF)
        self.c = network.pod(self.nodes[1], "c")
        self.c.calico(*C_OVERLAY)
        self.m = network.underlay(self.nodes[1], 102, **CONF)

    def client_address(self, source: NamedNamespace, pod: NetworkPod, address: str) -> str:
        """The client address that ``pod`` sees when ``source`` connects to ``address``."""
        port = next(_ports)
        server = self.network.listen(pod.inside, address, port)
        return self.network.client_address_seen(source, server, address, port)

    def client_address_through_service(
        self, source: NetworkPod, family: int, pod: NetworkPod, address: str
    ) -> str:
        """The client address that ``pod`` sees when ``source`` connects to a Service.

        ``address``: the address of ``pod`` that is the Service's backend.
        """
        port = next(_ports)
        source.node.add_service(CLUSTER_IPS[family], port, address, 8080 + port)
        server = self.network.listen(pod.inside, address, 8080 + port)
        return self.network.client_address_seen(source.inside, server, CLUSTER_IPS[family], port)


@pytest.fixture(scope="module", params=["eth0", "net1"])
def overlay(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Overlay]:
    network = NetworkHarness(tmp_path_factory.mktemp("overlay"))
    yield Overlay(network, request.param)
    network.close()


@FAMILIES
def test_a_pod_reaches_the_overlay_by_eth0_and_the_underlay_by_net1(
    overlay: Overlay, family: int
) -> None:
    cm = overlay.cm.inside
    assert overlay.client_address(cm, overlay.c, C_OVERLAY[family]) == CM_OVERLAY[family]
    assert overlay.client_address(cm, overlay.m, M_UNDERLAY[family]) == CM_UNDERLAY[family]


@FAMILIES
def test_clients_reach_an_overlay_pod_at_both_addresses(overlay: Overlay, family: int) -> None:
    cm, node = overlay.cm, overlay.nodes[0]
    assert overlay.client_address(overlay.m.inside, cm, CM_UNDERLAY[family]) == M_UNDERLAY[family]
    assert overlay.client_address(overlay.c.inside, cm, CM_OVERLAY[family]) == C_OVERLAY[family]
    assert (
        overlay.client_address(overlay.outside, cm, CM_UNDERLAY[family])
        == OUTSIDE_ADDRESSES[family]
    )
    for address in (CM_OVERLAY[family], CM_UNDERLAY[family]):
        assert overlay.client_address(node.inside, cm, address) == node.addresses[family]


@FAMILIES
@pytest.mark.parametrize("backend", ["m", "c", "cm"])
def test_pods_reach_services_through_their_nodes(
    overlay: Overlay, backend: str, family: int
) -> None:
    pod: NetworkPod = getattr(overlay, backend)
    address = {"m": M_UNDERLAY, "c": C_OVERLAY, "cm": CM_OVERLAY}[backend][family]
    for source in (overlay.m, overlay.cm):
        client_address = overlay.client_address_through_service(source, family, pod, address)
        assert client_address == source.node.addresses[family], "expected the node to masquerade"


@FAMILIES
def test_an_overlay_pod_answers_a_node_port_by_eth0(overlay: Overlay, family: int) -> None:
    node, port = overlay.nodes[0], next(_ports)
    node.add_node_port(family, port, CM_OVERLAY[family], port)
    server = overlay.network.listen(overlay.cm.inside, CM_OVERLAY[family], port)
    client_address = overlay.network.client_address_seen(
        overlay.outside, server, node.addresses[family], port
    )
    assert client_address == OUTSIDE_ADDRESSES[family]


@FAMILIES
def test_packets_to_each_destination_leave_by_the_expected_nic(
    overlay: Overlay, family: int
) -> None:
    """Spiderpool's test cases C00005, C00006, C00011 and C00012."""
    cm, default = overlay.cm.inside, overlay.default_nic
    expected = {
        ("8.8.8.8", "2001:db8::8")[family]: default,
        ("10.244.1.6", "fd00:244:0:1::6")[family]: "eth0",
        ("10.6.0.9", "fd00:6::9")[family]: "net1",
        CLUSTER_IPS[family]: "eth0",
        overlay.nodes[0].addresses[family]: "eth0",
    }
    assert {destination: nic_towards(cm, destination) for destination in expected} == expected


@pytest.mark.parametrize(
    ("further_nic_count", "settings"),
    [(2, {}), (3, {"podRPFilter": 1})],
    ids=["two further NICs", "three further NICs, strict rp_filter"],
)
def test_every_further_nic_answers_the_connections_that_it_received(
    network: NetworkHarness,
    network_node: NetworkNode,
    further_nic_count: int,
    settings: dict[str, Any],
) -> None:
    """Spiderpool's test cases C00013, C00020 and C00021."""
    outside = network.outside()
    pod = network.pod(network_node)
    pod.calico(*CM_OVERLAY)
    other = network.underlay(network.node("n2"), 102, **CONF)
    addresses = []
    for number in range(1, further_nic_count + 1):
        # The networks of these addresses are behind the router.
        four, six = f"10.7.0.{100 + number}", f"fd00:7::{100 + number}"
        pod.macvlan(f"net{number}", f"{four}/24", f"{six}/64")
        assert pod.add(f"net{number}", **CONF, **settings).table == 100 + number
        addresses += [four, six]
    for address in addresses:
        port, family = next(_ports), int(":" in address)
        server = network.listen(pod.inside, address, port)
        assert (
            network.client_address_seen(outside, server, address, port) == OUTSIDE_ADDRESSES[family]
        )
        assert (
            network.client_address_seen(other.inside, server, address, port) == M_UNDERLAY[family]
        )
        assert (
            network.client_address_seen(network_node.inside, server, address, port)
            == network_node.addresses[family]
        )


def test_pod_and_node_reach_each_other_by_ciliums_eth0(
    network: NetworkHarness, network_node: NetworkNode
) -> None:
    pod = network.pod(network_node)
    pod.calico(*CM_OVERLAY, prefix="lxc")
    pod.macvlan("net1", "10.6.0.101/24", "fd00:6::101/64")
    pod.add("net1", **CONF)
    assert f"dev lxc{pod.container[:11]}" in network_node.inside.ip("route", "get", "10.6.0.101")
    for address in network_node.addresses:
        assert pod.pings(address)


def nic_towards(namespace: NamedNamespace, destination: str) -> str:
    words = namespace.ip("route", "get", destination).split()
    return words[words.index("dev") + 1]

"""Traffic of ipvlan Pods, and of macvlan Pods on a VLAN, on a bond and in a VRF.

The kernel of user-mode Linux has no nftables for IP, so iptables sets the reply marks.
"""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Iterator
from typing import Any, Final

import pytest

from core.errors import BadInput
from nodeagent.coordinator.reply_mark_rules import PreferredReplyMarkRules
from nodeagent.ifacer.ifacer_configuration import read_conf
from nodeagent.ifacer.link_configurator import LinkConfigurator
from ops.lab.namespaces import NamedNamespace
from tests.nodeagent.coordinator.test_engine_final_states import routes, rules
from tests.support.network_harness import (
    OUTSIDE_ADDRESSES,
    SERVICE_CIDRS,
    NetworkHarness,
    NetworkNode,
    NetworkPod,
    batch,
)

pytestmark = pytest.mark.uml

CONF: Final[dict[str, Any]] = {"serviceCIDR": list(SERVICE_CIDRS)}
CLUSTER_IPS: Final = ("10.96.0.10", "fd00:96::10")
FAMILIES = pytest.mark.parametrize("family", [0, 1], ids=["IPv4", "IPv6"])

IPTABLES: Final = ("iptables-legacy", "ip6tables-legacy")
VLAN: Final = 100
_ports: Final = itertools.count(1_000)


class Pods:
    """Two ipvlan Pods on two nodes, and a host behind the router."""

    def __init__(self, network: NetworkHarness) -> None:
        self.network = network
        self.outside = network.outside()
        self.nodes = (network.node("n1"), network.node("n2"))
        self.pods = tuple(ipvlan_pod(network, node, 101 + i) for i, node in enumerate(self.nodes))
        for pod in self.pods:
            pod.add(**CONF)

    def address(self, number: int, family: int) -> str:
        return (f"10.6.0.{101 + number}", f"fd00:6::{101 + number}")[family]

    def client_address(
        self, source: NamedNamespace, number: int, family: int, service_address: str = ""
    ) -> str:
        """The client address that a Pod sees when ``source`` connects to the Pod.

        ``service_address``: an address that the first node translates to the Pod's address.
        """
        port = next(_ports)
        address = self.address(number, family)
        if service_address:
            translate(self.nodes[0], family, service_address, address, port)
        server = self.network.listen(self.pods[number].inside, address, port)
        return self.network.client_address_seen(source, server, service_address or address, port)


def ipvlan_pod(network: NetworkHarness, node: NetworkNode, number: int) -> NetworkPod:
    pod = network.pod(node)
    pod.child("eth0", "ipvlan mode l2", "eth0", f"10.6.0.{number}/24", f"fd00:6::{number}/64")
    return pod


def translate(node: NetworkNode, family: int, address: str, backend: str, port: int) -> None:
    """Add kube-proxy's rules for a ClusterIP, or for a NodePort with traffic policy Local."""
    match = ("-d", address, "-p", "tcp", "--dport", str(port))
    table = (IPTABLES[family], "-t", "nat", "-A")
    node.inside.run(*table, "PREROUTING", *match, "-j", "DNAT", "--to-destination", backend)
    if address in CLUSTER_IPS:
        backend_match = ("-d", backend, "-p", "tcp", "--dport", str(port))
        node.inside.run(*table, "POSTROUTING", *backend_match, "-j", "MASQUERADE")


@pytest.fixture(scope="module")
def pods(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pods]:
    network = NetworkHarness(tmp_path_factory.mktemp("ipvlan"))
    yield Pods(network)
    network.close()


@FAMILIES
def test_ipvlan_pods_on_two_nodes_reach_each_other(pods: Pods, family: int) -> None:
    assert pods.client_address(pods.pods[0].inside, 1, family) == pods.address(0, family)
    assert pods.client_address(pods.pods[1].inside, 0, family) == pods.address(1, family)


@FAMILIES
def test_an_ipvlan_pod_and_its_own_node_reach_each_other(pods: Pods, family: int) -> None:
    node = pods.nodes[0]
    assert pods.client_address(node.inside, 0, family) == node.addresses[family]
    assert pods.pods[0].pings(node.addresses[family])


@FAMILIES
def test_an_ipvlan_pod_and_another_node_reach_each_other(pods: Pods, family: int) -> None:
    node = pods.nodes[1]
    assert pods.client_address(node.inside, 0, family) == node.addresses[family]
    assert pods.pods[0].pings(node.addresses[family])


@FAMILIES
@pytest.mark.parametrize("backend", [0, 1], ids=["the Pod itself", "another Pod"])
def test_an_ipvlan_pod_reaches_a_service(pods: Pods, backend: int, family: int) -> None:
    # The node masquerades, so that the reply returns through the node.
    client_address = pods.client_address(pods.pods[0].inside, backend, family, CLUSTER_IPS[family])
    assert client_address == pods.nodes[0].addresses[family]


@FAMILIES
def test_an_ipvlan_pod_and_a_host_outside_reach_each_other(pods: Pods, family: int) -> None:
    assert pods.client_address(pods.outside, 0, family) == OUTSIDE_ADDRESSES[family]
    assert pods.pods[0].pings(OUTSIDE_ADDRESSES[family])


@FAMILIES
def test_an_ipvlan_pod_answers_a_node_port_through_the_node(pods: Pods, family: int) -> None:
    # The node keeps the client's address. A reply through eth0's gateway would be lost.
    client_address = pods.client_address(pods.outside, 0, family, pods.nodes[0].addresses[family])
    assert client_address == OUTSIDE_ADDRESSES[family]


def test_an_ipvlan_pod_gets_the_routes_and_rules_of_a_macvlan_pod(pods: Pods) -> None:
    pod, node = pods.pods[0], pods.nodes[0]
    assert rules(pod.inside) == ["1000: from all fwmark 0x1 lookup 100"]
    assert routes(pod.inside, "100") == {"default via 10.6.0.11 dev veth0 src 10.6.0.101"}
    assert routes(node.inside, "500") == {f"10.6.0.101 dev {pod.host_veth_name} scope link"}
    assert pod.check() == []
    other_engine = node.engine_with(PreferredReplyMarkRules(pods.network.executor))
    assert other_engine.find_differences(pod.attachment()) == []


def test_an_add_refuses_pod_mac_prefix_for_an_ipvlan(pods: Pods) -> None:
    node = pods.nodes[0]
    pod = ipvlan_pod(pods.network, node, 77)
    links_before = node.inside.ip("-brief", "link")
    with pytest.raises(BadInput, match="podMACPrefix: eth0 is an ipvlan"):
        pod.add(podMACPrefix="0a:1b", **CONF)
    assert node.inside.ip("-brief", "link") == links_before
    assert "veth0" not in pod.inside.ip("link")


def test_a_switch_that_drops_unknown_macs_forwards_ipvlan_but_not_macvlan(
    network: NetworkHarness,
) -> None:
    # Clouds and plain vSwitches drop frames whose source MAC address is not a node's.
    first, second = network.node("n1"), network.node("n2")
    for number, node in enumerate((first, second), 1):
        mac = node.inside.ip("-brief", "link", "show", "dev", "eth0").split()[2]
        port = f"to-{number}"
        network.fabric.run("bridge", "link", "set", "dev", port, "learning", "off", "locked", "on")
        network.fabric.run("bridge", "fdb", "replace", mac, "dev", port, "master", "static")
    ipvlan = ipvlan_pod(network, first, 101)
    macvlan = network.pod(second)
    macvlan.macvlan("eth0", "10.6.0.102/24")
    for pod in (ipvlan, macvlan):
        pod.add(**CONF)
    assert ipvlan.pings("10.6.0.1")
    assert ipvlan.pings(second.addresses[0])
    assert not macvlan.pings("10.6.0.1")
    assert macvlan.pings(second.addresses[0]), (
        "expected the veth pair to connect the Pod to its node"
    )


class SecondNetwork:
    """A second network of the nodes, with a router; ``tagged`` makes the network a VLAN."""

    def __init__(self, network: NetworkHarness, *, tagged: bool) -> None:
        self.network = network
        self.nics = itertools.count()
        batch(network.fabric, "link add br1 type bridge mcast_snooping 0", "link set br1 up")
        gateway = "br1"
        if tagged:
            gateway = f"br1.{VLAN}"
            batch(
                network.fabric,
                f"link add link br1 name {gateway} type vlan id {VLAN}",
                f"link set {gateway} up",
            )
        batch(
            network.fabric,
            f"address add 10.8.0.1/24 dev {gateway}",
            f"address add fd00:8::1/64 dev {gateway} nodad",
        )

    def plug(self, node: NetworkNode, *names: str) -> None:
        """Add a NIC of this network to the node for each name."""
        for name in names:
            port = f"second-{next(self.nics)}"
            batch(
                self.network.fabric,
                f"link add {port} type veth peer {name} netns {node.inside.name}",
                f"link set {port} master br1 up",
            )


def create_links(node: NetworkNode, *interfaces: str, **fields: Any) -> str:
    """Create links with ifacer; return the parent link for a macvlan interface."""
    conf = {"cniVersion": "1.0.0", "interfaces": interfaces} | fields
    links = read_conf(json.dumps(conf).encode()).links
    assert links is not None
    asyncio.run(LinkConfigurator(node.network.executor, node.namespace).prepare(links))
    return links.parent if not links.vlan else f"{links.parent}.{links.vlan}"


BOND: Final = {"bond": {"name": "bd0", "mode": 1, "options": "miimon=100"}}
MASTERS: Final[dict[str, tuple[tuple[str, ...], dict[str, Any]]]] = {
    "VLAN": (("ens3",), {"vlanID": VLAN}),
    "bond": (("ens3", "ens4"), BOND),
    "VLAN on bond": (("ens3", "ens4"), {"vlanID": VLAN} | BOND),
}


@pytest.mark.parametrize("kind", MASTERS)
def test_pods_on_ifacer_links_reach_each_other_and_their_nodes(
    network: NetworkHarness, kind: str
) -> None:
    nics, fields = MASTERS[kind]
    second_network = SecondNetwork(network, tagged="vlanID" in fields)
    nodes = (network.node("n1"), network.node("n2"))
    pods = []
    for number, node in enumerate(nodes, 101):
        second_network.plug(node, *nics)
        pod = network.pod(node)
        parent = create_links(node, *nics, **fields)
        pod.macvlan("eth0", f"10.8.0.{number}/24", f"fd00:8::{number}/64", parent=parent)
        pod.add(**CONF)
        assert pod.check() == []
        pods.append(pod)
    outside = network.outside()
    for family in (0, 1):
        first, second = (("10.8.0.101", "10.8.0.102"), ("fd00:8::101", "fd00:8::102"))[family]
        port = next(_ports)
        server = network.listen(pods[0].inside, first, port)
        assert network.client_address_seen(pods[1].inside, server, first, port) == second
        assert (
            network.client_address_seen(nodes[0].inside, server, first, port)
            == nodes[0].addresses[family]
        )
        assert (
            network.client_address_seen(outside, server, first, port) == OUTSIDE_ADDRESSES[family]
        )
        assert pods[0].pings(nodes[0].addresses[family])


def test_a_pod_whose_master_is_in_a_vrf_reaches_its_node(
    network: NetworkHarness,
) -> None:
    second_network = SecondNetwork(network, tagged=False)
    node = network.node()
    second_network.plug(node, "ens3")
    batch(
        node.inside,
        "link add storage type vrf table 77",
        "link set storage up",
        "link set ens3 master storage up",
        "address add 10.8.0.11/24 dev ens3",
        "address add fd00:8::b/64 dev ens3 nodad",
    )
    routes_before = routes(node.inside, "77")
    pod = network.pod(node)
    pod.macvlan("eth0", "10.8.0.101/24", "fd00:8::101/64", parent="ens3")
    pod.add(**CONF)
    # The kernel's rule for VRFs has the same priority as the coordinator's rule.
    assert rules(node.inside) == [
        "1000: from all lookup [l3mdev-table]",
        "1000: from all lookup 500",
    ]
    assert routes(node.inside, "77") == routes_before
    for family, address in enumerate(("10.8.0.101", "fd00:8::101")):
        port = next(_ports)
        server = network.listen(pod.inside, address, port)
        client = network.client_address_seen(node.inside, server, address, port)
        assert client == node.addresses[family]
        assert pod.pings(node.addresses[family])
    assert pod.pings("10.8.0.1")
    assert pod.delete()
    assert "[l3mdev-table]" in rules(node.inside)[0]


def test_ifacer_leaves_a_bond_in_its_vrf(
    network: NetworkHarness,
) -> None:
    node = network.node()
    SecondNetwork(network, tagged=True).plug(node, "ens3", "ens4")
    create_links(node, "ens3", "ens4", **BOND)
    batch(
        node.inside,
        "link add storage type vrf table 77",
        "link set storage up",
        "link set bd0 master storage",
    )
    parent = create_links(node, "ens3", "ens4", vlanID=VLAN, **BOND)
    assert "master storage" in node.inside.ip("link", "show", "dev", "bd0")
    pod = network.pod(node)
    pod.macvlan("eth0", "10.8.0.101/24", "fd00:8::101/64", parent=parent)
    pod.add(**CONF)
    assert pod.pings("10.8.0.1")
    assert pod.pings(node.addresses[0])

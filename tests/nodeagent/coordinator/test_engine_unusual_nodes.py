"""ADDs for Pods and nodes that have unusual names, unusual addresses or stale objects.

``network_pod`` is a Pod with a macvlan eth0 (10.6.0.101, fd00:6::101) that is not set up yet.
``network_node`` is its node (10.6.0.11, fd00:6::11).
"""

from __future__ import annotations

import socket
import struct
from typing import Any, Final

import pytest

from core.errors import NetlinkRefused
from nodeagent.netlink.namespaces import NetworkNamespace
from tests.nodeagent.coordinator.test_engine_final_states import calico_pod, routes, rules
from tests.support.deadlines import attempts
from tests.support.network_harness import (
    OUTSIDE_ADDRESSES,
    SERVICE_CIDRS,
    NetworkHarness,
    NetworkNode,
    NetworkPod,
    batch,
)

pytestmark = pytest.mark.netns

CONF: Final[dict[str, Any]] = {"serviceCIDR": list(SERVICE_CIDRS)}
ROUTER_ADVERTISEMENT: Final = 134


def test_an_underlay_pods_first_nic_may_have_any_name(
    network: NetworkHarness, network_node: NetworkNode
) -> None:
    pod = network.pod(network_node)
    pod.macvlan("lan0", "10.6.0.101/24", "fd00:6::101/64")
    pod.macvlan("net1", "10.7.0.101/24")
    for nic in ("lan0", "net1"):
        pod.add(nic, podDefaultCniNic="lan0", **CONF)
    assert "10.96.0.0/16 via 10.6.0.11 dev veth0 src 10.6.0.101" in routes(pod.inside, "main")
    assert "999: from 10.7.0.101 lookup 101" in rules(pod.inside)
    assert all(pod.pings(address) for address in network_node.addresses)


def test_an_overlay_pods_first_nic_may_have_any_name(
    network: NetworkHarness, network_node: NetworkNode
) -> None:
    pod = network.pod(network_node)
    pod.calico("10.244.1.5", nic="lan0")
    pod.macvlan("net1", "10.6.0.101/24")
    pod.add("net1", podDefaultCniNic="lan0", **CONF)
    assert "10.96.0.0/16 via 10.6.0.11 dev lan0 src 10.244.1.5" in routes(pod.inside, "main")
    assert routes(pod.inside, "100") == {"default via 169.254.1.1 dev lan0"}


def test_a_further_nic_may_have_any_name(
    network: NetworkHarness, network_node: NetworkNode
) -> None:
    """In Spiderpool's test case C00015 an annotation names the NIC with ``name@interface``."""
    pod = network.pod(network_node)
    pod.calico("10.244.1.5")
    pod.macvlan("rail-7f3a", "10.6.0.101/24")
    pod.add("rail-7f3a", **CONF)
    assert "32765: from 10.6.0.101 lookup 101" in rules(pod.inside)
    assert pod.check("rail-7f3a") == []


def test_an_address_from_a_router_advertisement_is_set_up(
    network: NetworkHarness, network_node: NetworkNode, network_pod: NetworkPod
) -> None:
    subnet = "fd00:51ac::"
    advertise(network, subnet)
    slaac_address = slaac_address_of(network_pod, subnet)

    network_pod.add(**CONF)

    host_veth = f"{slaac_address} dev {network_pod.host_veth_name}"
    assert host_veth in routes(network_node.inside, "500", "-6")
    assert f"{host_veth} lladdr" in network_node.inside.ip("-6", "neigh")


def test_a_pod_whose_only_ipv6_address_is_link_local_gets_no_ipv6_objects(
    network: NetworkHarness, network_node: NetworkNode
) -> None:
    pod = network.pod(network_node)
    pod.macvlan("eth0", "10.6.0.101/24")
    assert "fe80::" in pod.inside.ip("-6", "address", "show", "dev", "eth0")
    pod.add(vethLinkAddress="169.254.100.1", **CONF)
    assert rules(pod.inside, "-6") == []
    assert "fd00:96" not in pod.inside.ip("-6", "route")


def test_ipv6_only_pods_reach_pods_nodes_services_and_the_outside(
    network: NetworkHarness, network_node: NetworkNode
) -> None:
    outside = network.outside()
    pods = [network.pod(node, "six") for node in (network_node, network.node("n2"))]
    addresses = [f"fd00:6::{101 + number}" for number in range(2)]
    for pod, address in zip(pods, addresses, strict=True):
        pod.macvlan("eth0", f"{address}/64")
        pod.add(**CONF)
        assert pod.check() == []
    first, second = pods
    network_node.add_service("fd00:96::10", 80, addresses[1], 8080)
    network_node.add_node_port(1, 30080, addresses[0], 8081)
    servers = {port: network.listen(first.inside, addresses[0], port) for port in (80, 8081)}
    backend = network.listen(second.inside, addresses[1], 8080)
    node_address = network_node.addresses[1]
    client_address = network.client_address_seen
    assert client_address(network_node.inside, servers[80], addresses[0], 80) == node_address
    assert client_address(second.inside, servers[80], addresses[0], 80) == addresses[1]
    assert client_address(first.inside, backend, "fd00:96::10", 80) == node_address
    assert client_address(outside, servers[8081], node_address, 30080) == OUTSIDE_ADDRESSES[1]
    assert first.pings(network_node.addresses[1])


def test_only_ipv6_destinations_are_hijacked_if_the_node_has_no_ipv4_address(
    network_node: NetworkNode, network_pod: NetworkPod
) -> None:
    # The node has a route to the Pod's network, but no IPv4 source address.
    network_node.inside.ip("-4", "address", "flush", "dev", "eth0")
    network_node.inside.ip("route", "add", "10.6.0.0/24", "dev", "eth0")
    network_pod.add(**CONF)
    assert "10.96.0.0/16" not in network_pod.inside.ip("route")
    assert "fd00:96::/112 via fd00:6::11 dev veth0" in routes(network_pod.inside, "main", "-6")
    assert network_pod.pings(network_node.addresses[1])


def test_addresses_of_other_programs_links_are_not_node_addresses(
    network_node: NetworkNode, network_pod: NetworkPod
) -> None:
    """See docs/reference/coordinator.md, "Node addresses"."""
    node_links = ("tunl0", "ens9")
    other_links = [
        "docker0",
        "cbr0",
        "dummy0",
        "virbr0",
        "lxcbr0",
        "vethx",
        "cali1",
        "flannel.1",
        "kube-ipvs0",
        "cni0",
        "vx-submariner",
        "cilium_host",
    ]
    for number, name in enumerate((*node_links, *other_links), 1):
        batch(
            network_node.inside,
            f"link add {name} type bridge",
            f"address add 192.0.2.{number}/32 dev {name}",
            f"address add fd00:2::{number}/128 dev {name} nodad",
        )
    network_pod.add(**CONF)
    lines = routes(network_pod.inside, "main")
    destinations = {line.split()[0] for line in lines if "veth0 scope" in line}
    assert destinations == {"10.6.0.11", "192.0.2.1", "192.0.2.2"}
    lines = routes(network_pod.inside, "main", "-6")
    destinations = {line.split()[0] for line in lines if "dev veth0" in line}
    assert destinations == {"fd00:6::11", "fd00:2::1", "fd00:2::2", "fd00:96::/112"}
    assert "10.96.0.0/16 via 10.6.0.11 dev veth0 src 10.6.0.101" in routes(
        network_pod.inside, "main"
    )


def test_a_stale_route_to_the_pod_does_not_change_the_pods_routes(
    network: NetworkHarness, network_node: NetworkNode, network_pod: NetworkPod
) -> None:
    # Table 500 precedes table main, so the node's route to the Pod has the source 192.0.2.77.
    batch(
        network_node.inside,
        "link add dead type veth peer dead-2",
        "address add 192.0.2.77/32 dev dead",
        "link set dead up",
        "rule add pref 1000 lookup 500",
        "route add 10.6.0.101 dev dead table 500 src 192.0.2.77",
    )
    assert "192.0.2.77" in network_node.inside.ip("route", "get", "10.6.0.101")
    network_pod.add(**CONF)
    assert "10.96.0.0/16 via 10.6.0.11 dev veth0 src 10.6.0.101" in routes(
        network_pod.inside, "main"
    )


def test_tunnels_and_down_links_do_not_count_as_nics(
    network: NetworkHarness, network_node: NetworkNode
) -> None:
    pod = calico_pod(network, network_node)
    batch(pod.inside, "link add off type veth peer off-2", "link add tun0 type vxlan id 7 dev eth0")
    assert pod.add("net1", **CONF).table == 101, "expected 99 plus two NICs: eth0 and net1"


def test_an_add_fails_if_the_kernel_refuses_the_veth_address(network_pod: NetworkPod) -> None:
    with pytest.raises(NetlinkRefused, match="add address ff02::1"):
        network_pod.add(vethLinkAddress="ff02::1", **CONF)
    assert "veth0" not in network_pod.inside.ip("link")


def test_rules_that_exist_before_the_add_stay_after_the_del(
    network_pod: NetworkPod, network_node: NetworkNode
) -> None:
    network_node.inside.ip("rule", "add", "pref", "1000", "lookup", "500")
    network_pod.inside.ip("rule", "add", "pref", "1000", "fwmark", "1", "lookup", "100")
    network_pod.add(**CONF)
    assert rules(network_pod.inside) == ["1000: from all fwmark 0x1 lookup 100"]
    assert network_pod.delete()
    assert rules(network_pod.inside) == ["1000: from all fwmark 0x1 lookup 100"]


def test_packets_to_a_hijacked_destination_are_sent_through_the_node(
    network: NetworkHarness, network_node: NetworkNode, network_pod: NetworkPod
) -> None:
    """An egress gateway needs this: the node chooses the source address."""
    outside = network.outside()
    network_pod.add(hijackCIDR=["198.51.100.2/32"], **CONF)
    masquerade = "type nat hook postrouting priority 100; ip saddr 10.6.0.101 masquerade;"
    network_node.inside.run("nft", f"table ip egress {{ chain post {{ {masquerade} }}; }}")
    server = network.listen(outside, "198.51.100.2", 80)
    assert (
        network.client_address_seen(network_pod.inside, server, "198.51.100.2", 80)
        == network_node.addresses[0]
    )


def advertise(network: NetworkHarness, subnet: str) -> None:
    """Send a router advertisement with an autonomous on-link prefix (RFC 4861, 4.2 and 4.6.2)."""
    prefix = struct.pack("!BBBBIII", 3, 4, 64, 0xC0, 3600, 3600, 0)
    prefix += socket.inet_pton(socket.AF_INET6, subnet)
    message = struct.pack("!BBHBBHII", ROUTER_ADVERTISEMENT, 0, 0, 64, 0, 0, 0, 0) + prefix
    with NetworkNamespace.open(str(network.fabric.path)) as fabric:
        router = network.executor.socket(
            fabric, socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6
        )
        number = network.executor.run(fabric, lambda: socket.if_nametoindex("br0"))
    with router:
        router.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
        router.sendto(message, ("ff02::1", 0, 0, number))


def slaac_address_of(pod: NetworkPod, subnet: str) -> str:
    for _ in attempts():
        words = pod.inside.ip("-6", "address", "show", "dev", "eth0").split()
        addresses = [word.partition("/")[0] for word in words if word.startswith(subnet)]
        if addresses:
            return addresses[0]
    raise AssertionError("the Pod has received no router advertisement")

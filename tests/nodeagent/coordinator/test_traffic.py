"""Traffic of underlay Pods with macvlan on a bridge; see docs/reference/networks.md, "Traffic".

A macvlan interface cannot reach its own parent, so a Pod and its node use the coordinator's routes.
"""

from __future__ import annotations

import fcntl
import socket
from pathlib import Path
from typing import Any, Final

import pytest

from core.errors import FirewallBusy
from nodeagent.coordinator.reply_mark_rules import (
    TABLE_NAME,
    IptablesReplyMarkRules,
    NftReplyMarkRules,
    PreferredReplyMarkRules,
    ReplyMarkRules,
)
from nodeagent.netlink.namespaces import NetworkNamespace
from tests.support.network_harness import (
    ANSWER_S,
    GATEWAY_ADDRESSES,
    OUTSIDE_ADDRESSES,
    SERVICE_CIDRS,
    NetworkHarness,
    NetworkNode,
    NetworkPod,
)

pytestmark = pytest.mark.netns

CONF: Final[dict[str, Any]] = {"serviceCIDR": list(SERVICE_CIDRS)}
POD_MARK: Final = 0x4D
CLUSTER_IPS = ("10.96.0.10", "fd00:96::10")
FAMILIES = pytest.mark.parametrize("family", [0, 1], ids=["IPv4", "IPv6"])


class Pods:
    """Two underlay Pods on two nodes, after the coordinator's ADD."""

    def __init__(self, network: NetworkHarness) -> None:
        self.nodes = (network.node("n1"), network.node("n2"))
        self.pods = tuple(
            network.underlay(node, 100 + number, **CONF)
            for number, node in enumerate(self.nodes, 1)
        )

    def addresses(self, number: int) -> tuple[str, str]:
        return (f"10.6.0.{101 + number}", f"fd00:6::{101 + number}")


@pytest.fixture
def pods(network: NetworkHarness) -> Pods:
    return Pods(network)


@FAMILIES
def test_pods_reach_each_other_across_nodes_without_a_router(pods: Pods, family: int) -> None:
    first, second = pods.pods
    assert first.pings(pods.addresses(1)[family])
    assert second.pings(pods.addresses(0)[family])


@FAMILIES
def test_pods_of_two_networks_reach_each_other_by_the_router(
    network: NetworkHarness, pods: Pods, family: int
) -> None:
    first, other = pods.pods[0], network.pod(pods.nodes[1], "other")
    other.macvlan("eth0", "10.7.0.101/24", "fd00:7::101/64")
    other.add(**CONF)
    other_address = ("10.7.0.101", "fd00:7::101")[family]
    # Read the route before any packet is sent: a redirect by the router would change the route.
    assert f"via {GATEWAY_ADDRESSES[family].partition('/')[0]}" in first.inside.ip(
        "route", "get", other_address
    )
    server = network.listen(other.inside, other_address, 80)
    assert (
        network.client_address_seen(first.inside, server, other_address, 80)
        == pods.addresses(0)[family]
    )


@FAMILIES
def test_a_pod_and_its_own_node_reach_each_other(
    network: NetworkHarness, pods: Pods, family: int
) -> None:
    pod, node = pods.pods[0], pods.nodes[0]
    address = pods.addresses(0)[family]
    pod_server = network.listen(pod.inside, address, 80)
    node_server = network.listen(node.inside, "::", 80)
    assert (
        network.client_address_seen(node.inside, pod_server, address, 80) == node.addresses[family]
    )
    client_address = network.client_address_seen(
        pod.inside, node_server, node.addresses[family], 80
    )
    assert client_address.removeprefix("::ffff:") == address


@FAMILIES
def test_a_pod_and_another_node_reach_each_other(
    network: NetworkHarness, pods: Pods, family: int
) -> None:
    pod, node = pods.pods[0], pods.nodes[1]
    address = pods.addresses(0)[family]
    server = network.listen(pod.inside, address, 80)
    assert network.client_address_seen(node.inside, server, address, 80) == node.addresses[family]
    assert pod.pings(node.addresses[family])


@FAMILIES
def test_a_pod_reaches_a_service_whose_backend_is_on_another_node(
    network: NetworkHarness, pods: Pods, family: int
) -> None:
    pod, backend = pods.pods
    target = pods.addresses(1)[family]
    pods.nodes[0].add_service(CLUSTER_IPS[family], 80, target, 8080)
    server = network.listen(backend.inside, target, 8080)
    # The node masquerades, so that the reply returns through the node.
    client_address = network.client_address_seen(pod.inside, server, CLUSTER_IPS[family], 80)
    assert client_address == pods.nodes[0].addresses[family]


@FAMILIES
def test_a_pod_reaches_itself_by_its_service(
    network: NetworkHarness, pods: Pods, family: int
) -> None:
    pod = pods.pods[0]
    address = pods.addresses(0)[family]
    pods.nodes[0].add_service(CLUSTER_IPS[family], 80, address, 8080)
    server = network.listen(pod.inside, address, 8080)
    client_address = network.client_address_seen(pod.inside, server, CLUSTER_IPS[family], 80)
    assert client_address == pods.nodes[0].addresses[family]


@FAMILIES
def test_a_pod_and_a_host_outside_reach_each_other(
    network: NetworkHarness, pods: Pods, family: int
) -> None:
    outside = network.outside()
    pod = pods.pods[0]
    address = pods.addresses(0)[family]
    server = network.listen(pod.inside, address, 80)
    assert network.client_address_seen(outside, server, address, 80) == OUTSIDE_ADDRESSES[family]
    assert pod.pings(OUTSIDE_ADDRESSES[family])


@FAMILIES
def test_every_node_serves_a_node_port_with_external_traffic_policy_cluster(
    network: NetworkHarness, pods: Pods, family: int
) -> None:
    outside = network.outside()
    address = pods.addresses(0)[family]
    for number, node in enumerate(pods.nodes):
        port = 30080 + number
        node.add_service(node.addresses[family], port, address, port)
        server = network.listen(pods.pods[0].inside, address, port)
        client_address = network.client_address_seen(outside, server, node.addresses[family], port)
        assert client_address == node.addresses[family]


@FAMILIES
def test_a_node_port_with_external_traffic_policy_local_keeps_the_clients_address(
    network: NetworkHarness, pods: Pods, family: int
) -> None:
    # The reply must not leave by eth0's gateway, which has no state of the connection.
    outside = network.outside()
    pod, node = pods.pods[0], pods.nodes[0]
    address = pods.addresses(0)[family]
    node.add_node_port(family, 30080, address, 8080)
    server = network.listen(pod.inside, address, 8080)
    client_address = network.client_address_seen(outside, server, node.addresses[family], 30080)
    assert client_address == OUTSIDE_ADDRESSES[family]


def test_the_answer_of_a_node_port_is_lost_without_reply_mark_rules(
    network: NetworkHarness, pods: Pods
) -> None:
    outside = network.outside()
    pod, node = pods.pods[0], pods.nodes[0]
    node.add_node_port(0, 30080, pods.addresses(0)[0], 8080)
    server = network.listen(pod.inside, pods.addresses(0)[0], 8080)
    pod.inside.run("nft", "delete", "table", "ip", "orbweaver")
    client_address = network.client_address_seen(
        outside, server, node.addresses[0], 30080, timeout_s=0.5
    )
    assert client_address == ""


def test_a_second_underlay_nic_answers_the_connections_that_it_received(
    network: NetworkHarness, pods: Pods
) -> None:
    outside = network.outside()
    pod = pods.pods[0]
    pod.macvlan("net1", "10.7.0.101/24")
    pod.add("net1", **CONF)
    server = network.listen(pod.inside, "10.7.0.101", 80)
    assert network.client_address_seen(outside, server, "10.7.0.101", 80) == OUTSIDE_ADDRESSES[0]
    assert network.client_address_seen(pods.nodes[0].inside, server, "10.7.0.101", 80)
    assert "dev net1" in pod.inside.ip("route", "get", OUTSIDE_ADDRESSES[0], "from", "10.7.0.101")
    assert "dev eth0" in pod.inside.ip("route", "get", OUTSIDE_ADDRESSES[0])


def test_a_redirected_connection_reaches_a_pod_that_has_a_veth_address(
    network: NetworkHarness, network_node: NetworkNode
) -> None:
    # REDIRECT (Istio) changes the destination to an address of the interface that got the packet.
    pod = network.pod(network_node)
    pod.macvlan("eth0", "10.6.0.101/24")
    pod.add(vethLinkAddress="169.254.100.1")
    rules = "type nat hook prerouting priority -100; tcp dport 80 redirect to :8080;"
    pod.inside.run("nft", f"table ip istio {{ chain pre {{ {rules} }}; }}")
    server = network.listen(pod.inside, "0.0.0.0", 8080)
    assert (
        network.client_address_seen(network_node.inside, server, "10.6.0.101", 80)
        == network_node.addresses[0]
    )


def test_a_new_mac_address_is_announced(network: NetworkHarness, network_pod: NetworkPod) -> None:
    with NetworkNamespace.open(str(network.fabric.path)) as fabric:
        listener = network.executor.socket(fabric, socket.AF_PACKET, socket.SOCK_RAW, 0)
    mac = bytes.fromhex("0a1b0a060065")
    address, address6 = (
        socket.inet_aton("10.6.0.101"),
        socket.inet_pton(socket.AF_INET6, "fd00:6::101"),
    )
    with listener:
        listener.bind(("br0", 3))  # ETH_P_ALL
        listener.settimeout(ANSWER_S)
        network_pod.add(podMACPrefix="0a:1b", **CONF)

        def next_frame(ether_type: bytes, announced: bytes) -> bytes:
            while True:
                frame = listener.recv(2048)
                if frame[6:14] == mac + ether_type and announced in frame[14:]:
                    return frame

        arp = next_frame(b"\x08\x06", address)
        sender, target_ip = arp[22:32], arp[38:42]
        assert (sender, target_ip) == (mac + address, address)
        assert next_frame(b"\x86\xdd", address6)


@FAMILIES
@pytest.mark.parametrize("backend", [NftReplyMarkRules, IptablesReplyMarkRules])
def test_packets_of_a_pod_keep_the_mark_that_the_pod_sets(
    network: NetworkHarness,
    network_pod: NetworkPod,
    backend: type[ReplyMarkRules],
    family: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if backend is IptablesReplyMarkRules:
        network_pod.require_iptables()
        monkeypatch.setattr(PreferredReplyMarkRules, "put", backend(network.executor).put)
    network_pod.add(**CONF)
    chain = "type filter hook postrouting priority 300"
    rule = f"meta mark {POD_MARK} udp dport 9 counter"
    network_pod.inside.run("nft", f"table inet own {{ chain post {{ {chain}; {rule}; }}; }}")
    kind = (socket.AF_INET, socket.AF_INET6)[family]
    with NetworkNamespace.open(str(network_pod.inside.path)) as inside:
        sender = network.executor.socket(inside, kind, socket.SOCK_DGRAM, 0)
    with sender:
        sender.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, POD_MARK)
        sender.sendto(b"hello", (GATEWAY_ADDRESSES[family].partition("/")[0], 9))

    assert "counter packets 1 " in network_pod.inside.run("nft", "list table inet own")


def test_put_raises_firewall_busy_if_another_program_holds_the_iptables_lock(
    network: NetworkHarness,
    network_pod: NetworkPod,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    network_pod.require_iptables()
    monkeypatch.setattr("nodeagent.coordinator.reply_mark_rules.LOCK_S_MAX", 1)
    monkeypatch.setenv("XTABLES_LOCKFILE", str(tmp_path / "xtables.lock"))
    with (tmp_path / "xtables.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(FirewallBusy, match="did not get the xtables lock within 1 s"):
            IptablesReplyMarkRules(network.executor).put(
                network.open_namespace(network_pod.inside), (4,)
            )


def test_put_raises_firewall_busy_if_iptables_does_not_end(
    network: NetworkHarness, network_pod: NetworkPod, monkeypatch: pytest.MonkeyPatch
) -> None:
    network_pod.require_iptables()
    monkeypatch.setattr("nodeagent.coordinator.reply_mark_rules.IPTABLES_S_MAX", 0.0)
    with pytest.raises(FirewallBusy, match="another program changes rules"):
        IptablesReplyMarkRules(network.executor).put(
            network.open_namespace(network_pod.inside), (4,)
        )


def test_check_accepts_the_reply_mark_rules_of_earlier_versions(
    network: NetworkHarness, network_pod: NetworkPod
) -> None:
    """Pods that run during an upgrade keep the rules of the older version."""
    network_pod.add(**CONF)
    namespace = network.open_namespace(network_pod.inside)
    nft_rules = NftReplyMarkRules(network.executor)
    for table in ("ip", "ip6"):
        network_pod.inside.run("nft", f"flush chain {table} {TABLE_NAME} output")
    missing_without_rules = nft_rules.missing(namespace, (4, 6))
    for table in ("ip", "ip6"):
        network_pod.inside.run("nft", f"add rule {table} {TABLE_NAME} output meta mark set ct mark")
    missing_with_old_rules = nft_rules.missing(namespace, (4, 6))
    differences = network_pod.check()
    nft_rules.put(namespace, (4, 6))

    assert len(missing_without_rules) == 2, "expected a missing rule in chain output of each family"
    assert missing_with_old_rules == []
    assert differences == []
    assert "ct mark 0x00000001" in network_pod.inside.run("nft", f"list table ip {TABLE_NAME}")

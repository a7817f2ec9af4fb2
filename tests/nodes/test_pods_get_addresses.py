"""Pods that kubelet starts get addresses of their pool and a working network.

Pods of ``node-a`` use macvlan and the coordinator; Pods of ``node-b`` use a bridge.
The gateways of the network are 10.6.0.1 and fd00:6::1.
"""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest

from tests.nodes.kubernetes_cluster import KubernetesCluster
from tests.nodes.workloads import (
    IPV6_NETWORK,
    SHOP_NAMESPACE,
    annotated_with_pool,
    deployment,
    pod,
    pool,
    subnet,
)

pytestmark = [
    pytest.mark.etcd,
    pytest.mark.netns,
    pytest.mark.kubelet,
    pytest.mark.slow,
    pytest.mark.timeout(300),
]


@pytest.mark.parametrize("node", ["node-a", "node-b"])
def test_pods_get_addresses_of_the_pool_that_their_annotation_names(
    cluster: KubernetesCluster, node: str
) -> None:
    cluster.apply_pools(pool("green", "10.6.0.20-10.6.0.29"), pool("blue", "10.6.0.40-10.6.0.49"))
    cluster.apply(deployment("web", 2, annotated_with_pool("blue"), node=node))

    first, second = cluster.wait_for_pods(2, app="web")

    claims = cluster.store_reader.read_ledger().claims
    assert {first.node, second.node} == {node}
    assert {stored.claim.pool for stored in claims.values()} == {"blue"}
    assert set(claims) == {*first.addresses, *second.addresses}
    assert cluster.pings(first.name, second.addresses[0])
    assert cluster.pings(first.name, "10.6.0.1")


def test_pods_on_two_nodes_reach_each_other_over_macvlan_and_bridge(
    cluster: KubernetesCluster,
) -> None:
    cluster.apply_pools(pool("green", "10.6.0.20-10.6.0.29"))
    cluster.apply(
        pod("alpha", annotated_with_pool("green"), node="node-a"),
        pod("beta", annotated_with_pool("green"), node="node-b"),
    )

    alpha, beta = cluster.wait_for_pods(2)

    assert (alpha.node, beta.node) == ("node-a", "node-b")
    assert cluster.pings("alpha", beta.addresses[0])
    assert cluster.pings("beta", alpha.addresses[0])


def test_a_macvlan_pod_and_its_node_reach_each_other_over_the_coordinators_veth(
    cluster: KubernetesCluster,
) -> None:
    node = cluster.nodes["node-a"].node
    cluster.apply_pools(pool("green", "10.6.0.20-10.6.0.29"))
    cluster.apply(pod("alpha", annotated_with_pool("green"), node="node-a"))

    (alpha,) = cluster.wait_for_pods(1)

    links = cluster.run_in_pod("alpha", "ip", "-brief", "link").stdout
    ping = node.namespace.attempt("ping", "-n", "-c", "1", "-W", "2", alpha.addresses[0])
    assert "veth0@" in links
    assert "eth0@" in links
    assert ping.returncode == 0, ping.stdout
    assert cluster.pings("alpha", node.address)


def test_the_status_of_a_dual_stack_pod_has_both_addresses(cluster: KubernetesCluster) -> None:
    cluster.apply_pools(
        pool("green", "10.6.0.20-10.6.0.29"), pool("grass", "fd00:6::20-fd00:6::2f", **IPV6_NETWORK)
    )
    cluster.apply(pod("alpha", annotated_with_pool("green", "grass"), node="node-b"))

    (alpha,) = cluster.wait_for_pods(1)

    ipv4, ipv6 = alpha.addresses
    assert ip_address(ipv4) in ip_network("10.6.0.0/24")
    assert ip_address(ipv6) in ip_network("fd00:6::/64")
    assert cluster.pings("alpha", "fd00:6::1")


def test_kubectl_shows_pools_endpoints_and_subnets_with_the_documented_columns(
    cluster: KubernetesCluster,
) -> None:
    cluster.apply_pools(pool("green", "10.6.0.20-10.6.0.29", default=True))
    cluster.apply(subnet("wide", "10.6.0.20-10.6.0.39"), deployment("web", 2, {}))
    (first, _) = cluster.wait_for_pods(2, app="web")

    def rows_with_two_allocated() -> list[dict[str, str]]:
        rows = cluster.kubectl_get("sp")
        return rows if [row["ALLOCATED-IP-COUNT"] for row in rows] == ["2"] else []

    (row,) = cluster.until(rows_with_two_allocated, "the count of the pool")
    assert row == {
        "NAME": "green",
        "VERSION": "4",
        "SUBNET": "10.6.0.0/24",
        "ALLOCATED-IP-COUNT": "2",
        "TOTAL-IP-COUNT": "10",
        "DEFAULT": "true",
    }
    endpoint = {
        "NAME": first.name,
        "INTERFACE": "eth0",
        "IPV4POOL": "green",
        "IPV4": f"{first.addresses[0]}/24",
        "IPV6POOL": "",
        "IPV6": "",
        "NODE": first.node,
    }
    cluster.until(
        lambda: endpoint in cluster.kubectl_get("se", "-n", SHOP_NAMESPACE), "the endpoint"
    )
    assert len(cluster.kubectl_get("se", "-n", SHOP_NAMESPACE)) == 2
    wide = {
        "NAME": "wide",
        "VERSION": "4",
        "SUBNET": "10.6.0.0/24",
        "ALLOCATED-IP-COUNT": "10",
        "TOTAL-IP-COUNT": "20",
    }
    assert cluster.until(lambda: cluster.kubectl_get("ss") == [wide], "the subnet")


def test_pods_of_a_pool_without_a_gateway_have_no_default_route(
    cluster: KubernetesCluster,
) -> None:
    cluster.apply_pools(pool("calico", "10.244.100.0-10.244.200.1", subnet="10.244.0.0/16"))
    cluster.apply(deployment("nginx", 2, annotated_with_pool("calico"), node="node-b"))
    first, second = cluster.wait_for_pods(2, app="nginx")

    def counts_with_two_allocated() -> list[str]:
        (row,) = cluster.kubectl_get("sp")
        counts = [row["ALLOCATED-IP-COUNT"], row["TOTAL-IP-COUNT"]]
        return counts if counts[0] == "2" else []

    assert cluster.until(counts_with_two_allocated, "the count") == ["2", "25602"]
    assert cluster.pings(first.name, second.addresses[0])
    assert not cluster.run_in_pod(first.name, "ip", "route", "show", "default").stdout

"""The automatic pool of a Deployment is created, resized and deleted with the Deployment."""

from __future__ import annotations

import json
from ipaddress import ip_address
from typing import Final

import pytest

from tests.nodes.kubernetes_cluster import KubernetesCluster
from tests.nodes.workloads import SHOP_NAMESPACE, deployment, subnet

pytestmark = [
    pytest.mark.etcd,
    pytest.mark.netns,
    pytest.mark.kubelet,
    pytest.mark.slow,
    pytest.mark.timeout(300),
]

AUTOMATIC_POOL: Final = {
    "ipam.spidernet.io/subnet": json.dumps({"ipv4": ["wide"]}),
    "ipam.spidernet.io/ippool-ip-number": "+1",
}
"""These annotations request a pool from ``wide`` that has one address more than replicas."""


def pool_sizes(cluster: KubernetesCluster) -> list[tuple[str, str]]:
    """The total and the allocated addresses of each pool."""
    return [(row["TOTAL-IP-COUNT"], row["ALLOCATED-IP-COUNT"]) for row in cluster.kubectl_get("sp")]


def test_an_automatic_pool_is_resized_and_deleted_with_its_deployment(
    cluster: KubernetesCluster,
) -> None:
    cluster.apply(subnet("wide", "10.6.0.20-10.6.0.39"))
    cluster.until(lambda: "wide" in cluster.store_reader.read_ledger().subnets, "the subnet")

    cluster.apply(deployment("web", 2, AUTOMATIC_POOL))
    first, second = cluster.wait_for_pods(2, app="web")

    (name,) = cluster.store_reader.read_ledger().pools
    assert "web" in name
    # The pool has the three lowest addresses of the subnet.
    pool_addresses = {ip_address("10.6.0.20") + offset for offset in range(3)}
    assert {ip_address(pod.addresses[0]) for pod in (first, second)} <= pool_addresses
    assert cluster.until(lambda: pool_sizes(cluster) == [("3", "2")], "two of three")
    cluster.server.kubectl("--namespace", SHOP_NAMESPACE, "scale", "deployment/web", "--replicas=4")
    cluster.wait_for_pods(4, app="web")
    assert cluster.until(lambda: pool_sizes(cluster) == [("5", "4")], "four of five")
    cluster.server.kubectl("--namespace", SHOP_NAMESPACE, "scale", "deployment/web", "--replicas=1")
    assert cluster.until(lambda: pool_sizes(cluster) == [("2", "1")], "one of two")

    def subnet_sizes() -> list[tuple[str, str]]:
        """Addresses in a pool count as allocated."""
        return [
            (row["TOTAL-IP-COUNT"], row["ALLOCATED-IP-COUNT"]) for row in cluster.kubectl_get("ss")
        ]

    assert cluster.until(lambda: subnet_sizes() == [("20", "2")], "the subnet's count")
    cluster.server.kubectl("--namespace", SHOP_NAMESPACE, "delete", "deployment", "web")
    assert cluster.until(lambda: not cluster.store_reader.read_ledger().pools, "no pool")
    assert cluster.until(lambda: cluster.kubectl_get("sp") == [], "no SpiderIPPool")

"""Automatic pools are created before the first Pod starts, with the required size."""

from __future__ import annotations

import json
from ipaddress import ip_address
from typing import Final

import pytest

from tests.nodes.kubernetes_cluster import KubernetesCluster
from tests.nodes.workloads import SHOP, deployment, subnet

pytestmark = [
    pytest.mark.etcd,
    pytest.mark.netns,
    pytest.mark.kubelet,
    pytest.mark.slow,
    pytest.mark.timeout(300),
]

OWNED: Final = {
    "ipam.spidernet.io/subnet": json.dumps({"ipv4": ["wide"]}),
    "ipam.spidernet.io/ippool-ip-number": "+1",
}


def sizes(cluster: KubernetesCluster) -> list[tuple[str, str]]:
    """The number of addresses of each pool, and of claimed ones."""
    return [(row["TOTAL-IP-COUNT"], row["ALLOCATED-IP-COUNT"]) for row in cluster.table("sp")]


def test_the_automatic_pool_of_a_deployment_is_resized_and_deleted_with_it(
    cluster: KubernetesCluster,
) -> None:
    cluster.apply(subnet("wide", "10.6.0.20-10.6.0.39"))
    cluster.until(lambda: "wide" in cluster.store_reader.read_ledger().subnets, "the subnet")

    cluster.apply(deployment("web", 2, OWNED))
    first, second = cluster.running("web", 2)

    (name,) = cluster.store_reader.read_ledger().pools
    assert "web" in name
    assert {ip_address(one.addresses[0]) for one in (first, second)} <= {
        ip_address("10.6.0.20") + step for step in range(3)
    }
    assert cluster.until(lambda: sizes(cluster) == [("3", "2")], "two of three")
    cluster.server.kubectl("--namespace", SHOP, "scale", "deployment/web", "--replicas=4")
    cluster.running("web", 4)
    assert cluster.until(lambda: sizes(cluster) == [("5", "4")], "four of five")
    cluster.server.kubectl("--namespace", SHOP, "scale", "deployment/web", "--replicas=1")
    assert cluster.until(lambda: sizes(cluster) == [("2", "1")], "one of two")

    def share() -> list[tuple[str, str]]:
        return [(row["ALLOCATED-IP-COUNT"], row["TOTAL-IP-COUNT"]) for row in cluster.table("ss")]

    assert cluster.until(lambda: share() == [("2", "20")], "the subnet's count")
    cluster.server.kubectl("--namespace", SHOP, "delete", "deployment", "web")
    assert cluster.until(lambda: not cluster.store_reader.read_ledger().pools, "its end")
    assert cluster.until(lambda: cluster.table("sp") == [], "the end of its custom resource")

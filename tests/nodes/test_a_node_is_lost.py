"""When a node is lost, its Pods start elsewhere and their addresses are released."""

from __future__ import annotations

import pytest

from tests.nodes.kubernetes_cluster import KubernetesCluster
from tests.nodes.workloads import (
    SHOP_NAMESPACE,
    annotated_with_pool,
    deployment,
    pool,
    stateful_set,
)

pytestmark = [
    pytest.mark.etcd,
    pytest.mark.netns,
    pytest.mark.kubelet,
    pytest.mark.slow,
    pytest.mark.timeout(300),
]


def test_addresses_stay_released_after_a_lost_node_returns(
    cluster: KubernetesCluster,
) -> None:
    cluster.apply_pools(pool("green", "10.6.0.20-10.6.0.29"))
    cluster.apply(deployment("web", 4, annotated_with_pool("green")))
    before = cluster.wait_for_pods(4, app="web")
    lost_pods = {pod.name for pod in before if pod.node == "node-b"}
    assert lost_pods, "the scheduler must place some of the Pods on node-b"

    cluster.lose_node("node-b")

    def ready_pods_on_node_a() -> dict[str, str]:
        found = [pod for pod in cluster.pods("web") if pod.ready and pod.node == "node-a"]
        return {pod.addresses[0]: pod.name for pod in found} if len(found) == 4 else {}

    claims_on_node_a = cluster.until(ready_pods_on_node_a, "four Pods on node-a")
    assert cluster.until(lambda: cluster.claims() == claims_on_node_a, "only claims of these Pods")
    # The Pods of node-b still exist, because no kubelet confirms their deletion.
    assert {pod.name for pod in cluster.pods("web")} >= lost_pods
    cluster.restore_nodes()
    assert cluster.until(lambda: len(cluster.pods("web")) == 4, "the end of the lost Pods")
    assert cluster.claims() == claims_on_node_a
    assert len({pod.addresses for pod in cluster.wait_for_pods(4, app="web")}) == 4


def test_a_replica_keeps_its_address_after_its_node_is_lost(
    cluster: KubernetesCluster,
) -> None:
    cluster.apply_pools(pool("green", "10.6.0.20-10.6.0.29"))
    cluster.server.kubectl("cordon", "node-a")
    cluster.apply(stateful_set("db", 1, annotated_with_pool("green")))
    (before,) = cluster.wait_for_pods(1, app="db")
    cluster.server.kubectl("uncordon", "node-a")

    cluster.lose_node("node-b")
    cluster.until(lambda: not cluster.pods("db")[0].ready, "db-0 not ready")
    # A StatefulSet creates a new db-0 only after the old db-0 is deleted.
    cluster.server.kubectl(
        *("delete", "pod", "db-0", "--namespace", SHOP_NAMESPACE, "--force", "--grace-period=0")
    )

    (after,) = cluster.wait_for_pods(1, app="db")
    assert (before.node, after.node) == ("node-b", "node-a")
    assert after.addresses == before.addresses
    assert cluster.claims() == {after.addresses[0]: "db-0"}

"""A lost node: its Pods start elsewhere, and their addresses are released."""

from __future__ import annotations

import pytest

from tests.nodes.kubernetes_cluster import KubernetesCluster
from tests.nodes.workloads import SHOP, annotated_with_pool, deployment, pool, stateful_set

pytestmark = [
    pytest.mark.etcd,
    pytest.mark.netns,
    pytest.mark.kubelet,
    pytest.mark.slow,
    pytest.mark.timeout(300),
]


def test_addresses_of_a_lost_node_are_released_without_a_del_and_stay_so_when_it_returns(
    cluster: KubernetesCluster,
) -> None:
    cluster.pools(pool("green", "10.6.0.20-10.6.0.29"))
    cluster.apply(deployment("web", 4, annotated_with_pool("green")))
    before = cluster.running("web", 4)
    lost = {pod.name for pod in before if pod.node == "node-b"}
    assert lost, "the scheduler spreads them"

    cluster.lose_node("node-b")

    def living() -> dict[str, str]:
        """All four on the other node."""
        found = [pod for pod in cluster.pods("web") if pod.ready and pod.node == "node-a"]
        return {pod.addresses[0]: pod.name for pod in found} if len(found) == 4 else {}

    held = cluster.until(living, "successors")
    assert cluster.until(lambda: cluster.claims() == held, "reclaiming")
    assert {pod.name for pod in cluster.pods("web")} >= lost, "no kubelet could delete them"
    cluster.restore_nodes()
    assert cluster.until(lambda: len(cluster.pods("web")) == 4, "the end of the lost")
    assert cluster.claims() == held
    assert len({pod.addresses for pod in cluster.running("web", 4)}) == 4


def test_a_replica_of_a_lost_node_keeps_its_address_on_another_node(
    cluster: KubernetesCluster,
) -> None:
    cluster.pools(pool("green", "10.6.0.20-10.6.0.29"))
    cluster.server.kubectl("cordon", "node-a")
    cluster.apply(stateful_set("db", 1, annotated_with_pool("green")))
    (before,) = cluster.running("db", 1)
    cluster.server.kubectl("uncordon", "node-a")

    cluster.lose_node("node-b")
    cluster.until(lambda: not cluster.pods("db")[0].ready, "the word of its end")
    # A StatefulSet does not replace db-0 while it may run, until a user marks the node
    # out-of-service.
    cluster.server.kubectl(
        *("delete", "pod", "db-0", "--namespace", SHOP, "--force", "--grace-period=0")
    )

    (after,) = cluster.running("db", 1)
    assert (before.node, after.node) == ("node-b", "node-a")
    assert after.addresses == before.addresses
    assert cluster.claims() == {after.addresses[0]: "db-0"}

"""Addresses are allocated and released when workloads are scaled, restarted, completed or moved."""

from __future__ import annotations

import pytest

from tests.nodes.kubernetes_cluster import KubernetesCluster
from tests.nodes.workloads import (
    SHOP_NAMESPACE,
    annotated_with_pool,
    deployment,
    job,
    pod,
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


def kubectl_in_shop(cluster: KubernetesCluster, *arguments: str) -> str:
    return cluster.server.kubectl("--namespace", SHOP_NAMESPACE, *arguments)


def test_scaling_a_deployment_allocates_and_releases_addresses(cluster: KubernetesCluster) -> None:
    cluster.apply_pools(pool("green", "10.6.0.20-10.6.0.22"))
    cluster.apply(deployment("web", 1, annotated_with_pool("green")))
    cluster.wait_for_pods(1, app="web")

    kubectl_in_shop(cluster, "scale", "deployment/web", "--replicas=3")

    assert len({pod.addresses for pod in cluster.wait_for_pods(3, app="web")}) == 3
    kubectl_in_shop(cluster, "scale", "deployment/web", "--replicas=1")
    (remaining_pod,) = cluster.wait_for_pods(1, app="web")
    assert cluster.until(
        lambda: cluster.claims() == {remaining_pod.addresses[0]: remaining_pod.name}
    )


def test_one_free_address_suffices_for_a_rolling_restart(cluster: KubernetesCluster) -> None:
    cluster.apply_pools(pool("green", "10.6.0.20-10.6.0.22"))
    cluster.apply(deployment("web", 2, annotated_with_pool("green")))
    before = cluster.wait_for_pods(2, app="web")

    kubectl_in_shop(cluster, "rollout", "restart", "deployment/web")
    kubectl_in_shop(cluster, "rollout", "status", "deployment/web", "--timeout=60s")

    after = cluster.wait_for_pods(2, app="web")
    assert not {pod.uid for pod in before} & {pod.uid for pod in after}
    expected_claims = {pod.addresses[0]: pod.name for pod in after}
    assert cluster.until(lambda: cluster.claims() == expected_claims)


def test_replicas_of_a_statefulset_keep_their_addresses_when_they_restart_or_move(
    cluster: KubernetesCluster,
) -> None:
    cluster.apply_pools(pool("green", "10.6.0.20-10.6.0.29"))
    cluster.apply(stateful_set("db", 2, annotated_with_pool("green"), node="node-a"))
    before = cluster.wait_for_pods(2, app="db")

    cluster.apply(stateful_set("db", 2, annotated_with_pool("green"), node="node-b"))
    kubectl_in_shop(cluster, "rollout", "status", "statefulset/db", "--timeout=60s")
    moved_replicas = cluster.wait_for_pods(2, app="db")
    kubectl_in_shop(cluster, "delete", "pod", "db-0", "--force", "--grace-period=0")
    cluster.until(lambda: moved_replicas[0].uid not in {pod.uid for pod in cluster.pods("db")})
    after = cluster.wait_for_pods(2, app="db")

    assert {replica.node for replica in moved_replicas} == {"node-b"}
    assert [replica.addresses for replica in moved_replicas] == [
        replica.addresses for replica in before
    ]
    assert after[0].addresses == before[0].addresses
    assert cluster.pings("db-0", before[1].addresses[0])


def test_surplus_replicas_of_a_statefulset_release_their_addresses(
    cluster: KubernetesCluster,
) -> None:
    cluster.apply_pools(pool("green", "10.6.0.20-10.6.0.29"))
    cluster.apply(stateful_set("db", 3, annotated_with_pool("green")))
    first, _, _ = cluster.wait_for_pods(3, app="db")

    kubectl_in_shop(cluster, "scale", "statefulset/db", "--replicas=1")

    assert cluster.until(lambda: cluster.claims() == {first.addresses[0]: "db-0"})
    kubectl_in_shop(cluster, "delete", "statefulset", "db")
    assert cluster.until(lambda: not cluster.claims())


def test_a_finished_job_holds_no_address_although_its_pod_still_exists(
    cluster: KubernetesCluster,
) -> None:
    cluster.apply_pools(pool("green", "10.6.0.20-10.6.0.29"))
    cluster.apply(job("once", annotated_with_pool("green")))

    kubectl_in_shop(cluster, "wait", "--for=condition=complete", "job/once", "--timeout=60s")

    assert cluster.until(lambda: not cluster.claims())
    (ended_pod,) = cluster.pods("once")
    assert ended_pod.phase == "Succeeded"
    assert ended_pod.addresses, "the Pod's status must still have the released address"


def test_pods_of_a_drained_node_start_elsewhere_and_release_their_addresses(
    cluster: KubernetesCluster,
) -> None:
    cluster.apply_pools(pool("green", "10.6.0.20-10.6.0.29"))
    cluster.apply(deployment("web", 3, annotated_with_pool("green")))
    cluster.wait_for_pods(3, app="web")

    cluster.server.kubectl("drain", "node-b", "--timeout=60s")

    after = cluster.wait_for_pods(3, app="web")
    assert {pod.node for pod in after} == {"node-a"}
    expected_claims = {pod.addresses[0]: pod.name for pod in after}
    assert cluster.until(lambda: cluster.claims() == expected_claims)


def test_a_pod_releases_its_address_when_kubelet_evicts_it(
    cluster: KubernetesCluster,
) -> None:
    cluster.apply_pools(pool("green", "10.6.0.20-10.6.0.29"))
    cluster.apply(deployment("web", 1, annotated_with_pool("green"), scratch_mb=1))
    (evicted_pod,) = cluster.wait_for_pods(1, app="web")

    volume_path = cluster.nodes[evicted_pod.node].volume(evicted_pod.uid, "scratch")
    (volume_path / "dump").write_bytes(bytes(4 << 20))  # 4 MiB, more than the limit of 1 MiB

    cluster.until(
        lambda: "Evicted: Usage of EmptyDir" in cluster.events(evicted_pod.name), "eviction"
    )
    (successor,) = cluster.until(
        lambda: [pod for pod in cluster.pods("web") if pod.ready and pod.uid != evicted_pod.uid]
    )
    expected_claims = {successor.addresses[0]: successor.name}
    assert cluster.until(lambda: cluster.claims() == expected_claims)


def test_force_deleted_pods_of_a_deployment_release_all_addresses(
    cluster: KubernetesCluster,
) -> None:
    cluster.apply_pools(pool("green", "10.6.0.20-10.6.0.59"))
    cluster.apply(deployment("web", 12, annotated_with_pool("green")))
    cluster.until(lambda: len(cluster.claims()) >= 6, "six claims")

    kubectl_in_shop(cluster, "delete", "deployment", "web", "--cascade=foreground", "--wait=false")
    kubectl_in_shop(cluster, "delete", "pods", "--all", "--force", "--grace-period=0")

    assert cluster.until(lambda: not cluster.pods() and not cluster.claims())
    cluster.apply(pod("last", annotated_with_pool("green")))
    cluster.wait_for_pods(1)

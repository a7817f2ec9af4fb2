"""Pods without a free address, without a controller or agent, or without the API server."""

from __future__ import annotations

import os
import signal

import pytest

from tests.nodes.kubernetes_cluster import KubernetesCluster
from tests.nodes.workloads import SHOP_NAMESPACE, annotated_with_pool, deployment, pod, pool

pytestmark = [
    pytest.mark.etcd,
    pytest.mark.netns,
    pytest.mark.kubelet,
    pytest.mark.slow,
    pytest.mark.timeout(300),
]


def test_a_pod_waits_until_its_full_pool_has_a_free_address(
    cluster: KubernetesCluster,
) -> None:
    cluster.apply_pools(pool("tiny", "10.6.0.20"))
    cluster.apply(pod("first", annotated_with_pool("tiny")))
    cluster.wait_for_pods(1)
    cluster.apply(pod("second", annotated_with_pool("tiny")))

    messages = cluster.until(
        lambda: [line for line in cluster.events("second").splitlines() if "IP addresses" in line]
    )

    assert "FailedCreatePodSandBox" in messages[0]
    assert "all IP addresses used out" in messages[0]
    assert "tiny" in messages[0]
    cluster.server.kubectl("delete", "pod", "first", "--namespace", SHOP_NAMESPACE)
    (second,) = cluster.wait_for_pods(1)
    assert second.addresses == ("10.6.0.20",)


def test_an_event_names_a_pool_that_does_not_exist(cluster: KubernetesCluster) -> None:
    cluster.apply_pools(pool("green", "10.6.0.20-10.6.0.29"))
    cluster.apply(pod("lost", annotated_with_pool("nowhere")))

    assert cluster.until(lambda: "nowhere" in cluster.events("lost"), "the name of the pool")
    assert cluster.claims() == {}


def test_pods_start_and_end_while_no_controller_runs(
    cluster: KubernetesCluster,
) -> None:
    cluster.apply_pools(pool("green", "10.6.0.20-10.6.0.29"))
    cluster.controller.process.kill()

    cluster.apply(
        deployment("web", 2, annotated_with_pool("green")),
        pod("gone", annotated_with_pool("green")),
    )
    cluster.wait_for_pods(3)
    cluster.server.kubectl("delete", "pod", "gone", "--namespace", SHOP_NAMESPACE)
    claims_of_web = {pod.addresses[0]: pod.name for pod in cluster.wait_for_pods(2, app="web")}

    assert cluster.until(lambda: cluster.claims() == claims_of_web)
    assert cluster.kubectl_get("se", "-n", SHOP_NAMESPACE) == []
    cluster.controller.process.start()
    cluster.until(
        lambda: len(cluster.kubectl_get("se", "-n", SHOP_NAMESPACE)) == 2, "SpiderEndpoints"
    )


def test_a_pod_waits_until_the_agent_of_its_node_runs(cluster: KubernetesCluster) -> None:
    node = cluster.nodes["node-a"].node
    cluster.apply_pools(pool("green", "10.6.0.20-10.6.0.29"))
    cluster.apply(pod("alpha", annotated_with_pool("green"), node="node-a"))
    (alpha,) = cluster.wait_for_pods(1)
    node.agent.kill()

    cluster.apply(pod("beta", annotated_with_pool("green"), node="node-a"))

    cluster.until(lambda: "unhealthy spiderpool-agent backend" in cluster.events("beta"))
    assert cluster.claims() == {alpha.addresses[0]: "alpha"}
    node.start_agent()
    _, beta = cluster.wait_for_pods(2)
    assert cluster.pings("beta", alpha.addresses[0])
    assert cluster.claims().keys() == {*alpha.addresses, *beta.addresses}


def test_a_pod_keeps_its_address_in_a_new_sandbox(
    cluster: KubernetesCluster,
) -> None:
    cluster.apply_pools(pool("green", "10.6.0.20-10.6.0.29"))
    cluster.apply(pod("alpha", annotated_with_pool("green"), node="node-a"))
    (alpha,) = cluster.wait_for_pods(1)
    killed_sandbox = cluster.sandbox_id("alpha")
    cluster.server.kill()

    os.kill(cluster.pid_of("alpha"), signal.SIGKILL)

    cluster.until(lambda: cluster.sandbox_id("alpha") not in ("", killed_sandbox), "a new sandbox")
    cluster.until(lambda: cluster.pings("alpha", "10.6.0.1"), "the Pod's network")
    assert cluster.claims() == {alpha.addresses[0]: "alpha"}
    cluster.server.start()
    assert cluster.wait_for_pods(1)[0].addresses == alpha.addresses


def test_pods_reach_each_other_while_the_api_server_is_down(
    cluster: KubernetesCluster,
) -> None:
    cluster.apply_pools(pool("green", "10.6.0.20-10.6.0.29"))
    cluster.apply(pod("alpha", annotated_with_pool("green"), node="node-a"))
    cluster.apply(pod("beta", annotated_with_pool("green"), node="node-b"))
    _, beta = cluster.wait_for_pods(2)

    cluster.server.kill()

    assert cluster.pings("alpha", beta.addresses[0])
    assert len(cluster.claims()) == 2
    cluster.server.start()
    both = {"alpha", "beta"}
    cluster.until(
        lambda: {row["NAME"] for row in cluster.kubectl_get("se", "-n", SHOP_NAMESPACE)} == both
    )

"""Behaviour of kubelet and Pods without free addresses, a process of ours or the API server."""

from __future__ import annotations

import os
import signal

import pytest

from tests.nodes.kubernetes_cluster import KubernetesCluster
from tests.nodes.workloads import SHOP, asking, deployment, pod, pool

pytestmark = [
    pytest.mark.etcd,
    pytest.mark.netns,
    pytest.mark.kubelet,
    pytest.mark.slow,
    pytest.mark.timeout(300),
]


def test_a_full_pool_is_named_in_an_event_of_the_pod_which_runs_as_soon_as_there_is_room(
    cluster: KubernetesCluster,
) -> None:
    cluster.pools(pool("tiny", "10.6.0.20"))
    cluster.apply(pod("first", asking("tiny")))
    cluster.running("", 1)
    cluster.apply(pod("second", asking("tiny")))

    messages = cluster.until(
        lambda: [one for one in cluster.events("second").splitlines() if "IP addresses" in one]
    )

    assert "FailedCreatePodSandBox" in messages[0]
    assert "all IP addresses used out" in messages[0]
    assert "tiny" in messages[0]
    cluster.server.kubectl("delete", "pod", "first", "--namespace", SHOP)
    (second,) = cluster.running("", 1)
    assert second.addresses == ("10.6.0.20",)


def test_a_pool_that_there_is_not_is_named_too(cluster: KubernetesCluster) -> None:
    cluster.pools(pool("green", "10.6.0.20-10.6.0.29"))
    cluster.apply(pod("lost", asking("nowhere")))

    messages = cluster.until(lambda: cluster.events("lost"), "events")

    assert cluster.until(lambda: "nowhere" in cluster.events("lost")), messages
    assert cluster.claims() == {}


def test_pods_start_and_end_without_any_controller_and_are_reported_by_the_next_one(
    cluster: KubernetesCluster,
) -> None:
    cluster.pools(pool("green", "10.6.0.20-10.6.0.29"))
    cluster.controller.process.kill()

    cluster.apply(deployment("web", 2, asking("green")), pod("gone", asking("green")))
    cluster.running("", 3)
    cluster.server.kubectl("delete", "pod", "gone", "--namespace", SHOP)
    held = {one.addresses[0]: one.name for one in cluster.running("web", 2)}

    assert cluster.until(lambda: cluster.claims() == held)
    assert cluster.table("se", "-n", SHOP) == []
    cluster.controller.process.start()
    cluster.until(lambda: len(cluster.table("se", "-n", SHOP)) == 2, "reports")


def test_a_pod_waits_for_the_agent_of_its_node_and_says_so(cluster: KubernetesCluster) -> None:
    node = cluster.nodes["node-a"].node
    cluster.pools(pool("green", "10.6.0.20-10.6.0.29"))
    cluster.apply(pod("alpha", asking("green"), node="node-a"))
    (alpha,) = cluster.running("", 1)
    node.agent.kill()

    cluster.apply(pod("beta", asking("green"), node="node-a"))

    cluster.until(lambda: "unhealthy spiderpool-agent backend" in cluster.events("beta"))
    assert cluster.claims() == {alpha.addresses[0]: "alpha"}
    node.start_agent()
    _, beta = cluster.running("", 2)
    assert cluster.pings("beta", alpha.addresses[0])
    assert len(cluster.claims()) == len({*alpha.addresses, *beta.addresses}) == 2


def test_a_sandbox_that_dies_while_the_api_server_is_away_is_replaced_with_the_same_address(
    cluster: KubernetesCluster,
) -> None:
    cluster.pools(pool("green", "10.6.0.20-10.6.0.29"))
    cluster.apply(pod("alpha", asking("green"), node="node-a"))
    (alpha,) = cluster.running("", 1)
    sandbox = cluster.sandbox("alpha")
    cluster.server.kill()

    os.kill(cluster.pid_of("alpha"), signal.SIGKILL)

    cluster.until(lambda: cluster.sandbox("alpha") not in ("", sandbox), "a new sandbox")
    cluster.until(lambda: cluster.pings("alpha", "10.6.0.1"), "its network")
    assert cluster.claims() == {alpha.addresses[0]: "alpha"}
    cluster.server.start()
    assert cluster.running("", 1)[0].addresses == alpha.addresses


def test_pods_reach_each_other_while_the_api_server_is_away_and_reports_catch_up(
    cluster: KubernetesCluster,
) -> None:
    cluster.pools(pool("green", "10.6.0.20-10.6.0.29"))
    cluster.apply(pod("alpha", asking("green"), node="node-a"))
    cluster.apply(pod("beta", asking("green"), node="node-b"))
    _, beta = cluster.running("", 2)

    cluster.server.kill()

    assert cluster.pings("alpha", beta.addresses[0])
    assert len(cluster.claims()) == 2
    cluster.server.start()
    both = {"alpha", "beta"}
    cluster.until(lambda: {row["NAME"] for row in cluster.table("se", "-n", SHOP)} == both)

"""The requests of agents and controller in the audit log of the API server."""

from __future__ import annotations

import pytest

from tests.nodes.kubernetes_cluster import KubernetesCluster
from tests.nodes.rights import AGENT_ACCOUNT, CONTROLLER_ACCOUNT
from tests.nodes.workloads import SHOP_NAMESPACE, annotated_with_pool, deployment, pool
from tests.support.audit import READ_VERBS

NODE_STATES = "sriovnetworknodestates"
"""Other tests on this cluster make agents write this resource."""

PODS = 10

pytestmark = [
    pytest.mark.etcd,
    pytest.mark.netns,
    pytest.mark.kubelet,
    pytest.mark.slow,
    pytest.mark.timeout(300),
]


def test_agents_give_pods_addresses_without_writing_to_the_api_server(
    cluster: KubernetesCluster,
) -> None:
    cluster.apply_pools(pool("green", "10.6.0.20-10.6.0.39"))
    requests_before = len(cluster.control_plane.audit.requests())
    cluster.apply(deployment("web", PODS, annotated_with_pool("green")))
    cluster.wait_for_pods(PODS, app="web")

    # The audit log also has the requests of earlier tests.
    requests = [
        request
        for request in cluster.control_plane.audit.requests()
        if request.user == AGENT_ACCOUNT
    ]

    assert requests
    assert {
        request.verb for request in requests if request.resource.partition("/")[0] != NODE_STATES
    } <= READ_VERBS
    # Each agent reads the ReplicaSet once. An agent reads a Pod only if kubelet calls the agent
    # before the Pod's watch event arrives.
    since_apply = [
        request
        for request in cluster.control_plane.audit.requests()[requests_before:]
        if request.user == AGENT_ACCOUNT
    ]
    owner_reads = sum(request.resource == "replicasets" for request in since_apply)
    pod_reads = sum(request.resource == "pods" and request.verb == "get" for request in since_apply)
    assert owner_reads <= len(cluster.nodes)
    assert pod_reads <= PODS


def test_the_charts_roles_permit_every_request_of_agents_and_controller(
    cluster: KubernetesCluster,
) -> None:
    cluster.apply_pools(pool("green", "10.6.0.20-10.6.0.39"))
    cluster.apply(deployment("web", 2, annotated_with_pool("green")))
    cluster.wait_for_pods(2, app="web")
    cluster.until(
        lambda: len(cluster.kubectl_get("se", "-n", SHOP_NAMESPACE)) == 2, "SpiderEndpoints"
    )

    requests = cluster.control_plane.audit.requests()

    assert {request.user for request in requests} == {AGENT_ACCOUNT, CONTROLLER_ACCOUNT}
    assert cluster.forbidden_requests() == set()

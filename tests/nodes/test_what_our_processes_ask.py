"""The requests of our processes in the audit log of the API server."""

from __future__ import annotations

import pytest

from tests.nodes.kubernetes_cluster import KubernetesCluster
from tests.nodes.rights import AGENT, CONTROLLER
from tests.nodes.workloads import SHOP, annotated_with_pool, deployment, pool
from tests.support.audit import READING

NODE_STATES = "sriovnetworknodestates"
"""The one kind that agents write: the state of their node, with policies for virtual functions."""

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
    cluster.pools(pool("green", "10.6.0.20-10.6.0.39"))
    requests_before = len(cluster.control_plane.audit.requests())
    cluster.apply(deployment("web", 10, annotated_with_pool("green")))
    cluster.running("web", 10)

    requests = [
        request for request in cluster.control_plane.audit.requests() if request.user == AGENT
    ]

    assert requests
    assert {
        request.verb for request in requests if request.resource.partition("/")[0] != NODE_STATES
    } <= READING
    # Owners once for each agent; Pods only if kubelet started them before the watch event.
    since = [
        request
        for request in cluster.control_plane.audit.requests()[requests_before:]
        if request.user == AGENT
    ]
    assert sum(request.resource == "replicasets" for request in since) <= len(cluster.nodes)
    assert sum(request.resource == "pods" and request.verb == "get" for request in since) <= 10


def test_no_request_of_our_processes_is_forbidden_by_the_documented_rights(
    cluster: KubernetesCluster,
) -> None:
    cluster.pools(pool("green", "10.6.0.20-10.6.0.39"))
    cluster.apply(deployment("web", 2, annotated_with_pool("green")))
    cluster.running("web", 2)
    cluster.until(lambda: len(cluster.table("se", "-n", SHOP)) == 2, "reports")

    requests = cluster.control_plane.audit.requests()

    assert {request.user for request in requests} == {AGENT, CONTROLLER}
    assert cluster.forbidden_requests() == set()

"""The drainer cordons Nodes, evicts their Pods and uncordons the Nodes, on a real API server.

An agent requests the drain of a node in the node's SriovNetworkNodeState.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from core.domain.sriov.drain_plan import DrainRequest
from core.kubernetes.api_client import Api
from core.kubernetes.http_connection import open_connection
from core.manifests.kinds.sriov import API_VERSION
from core.manifests.sriov_states import (
    BLOCKING_PODS,
    CURRENT_DRAIN_STATE,
    DRAIN_LABEL,
    DRAIN_REQUIRED,
)
from ops.kubernetes.node_drainer import KubernetesNodeDrainer
from tests.chart.rendering import render_objects
from tests.kubernetes.identities import apply_permissions, kubeconfig_of
from tests.kubernetes.objects import Object
from tests.kubernetes.workload_objects import create_pod, delete_workloads
from tests.support.kubernetes import MERGE_PATCH, ApiServer
from tests.support.parts import HELM, needs
from workflows.jobs.node_drain.drainer import PODS_OBSERVED_MAX, DrainObservation

pytest.importorskip("helm_python", reason=needs(HELM))

NODE = "node-1"
GROUP_PATH = f"/apis/{API_VERSION}"
STATES_PATH = f"{GROUP_PATH}/namespaces/orbweaver/sriovnetworknodestates"
NODES_PATH = "/api/v1/nodes"
BUDGETS_PATH = "/apis/policy/v1/namespaces/shop/poddisruptionbudgets"
VALUES = {"sriov": {"install": True}}


@pytest.fixture
def shop(server: ApiServer) -> Iterator[ApiServer]:
    delete_workloads(server)
    apply_permissions(server, render_objects(VALUES))
    server.request("POST", NODES_PATH, {"kind": "Node", "metadata": {"name": NODE}})
    yield server
    server.request("DELETE", f"{BUDGETS_PATH}/firm")
    server.request("DELETE", f"{STATES_PATH}/{NODE}")
    server.request("DELETE", f"{NODES_PATH}/{NODE}")
    delete_workloads(server)
    apply_permissions(server, render_objects({}))


@pytest.fixture
async def drainer(shop: ApiServer, tmp_path: Path) -> AsyncIterator[KubernetesNodeDrainer]:
    """A drainer with the permissions that the chart gives to controllers."""
    kubeconfig = kubeconfig_of(shop, "orbweaver-controller", tmp_path)
    api = Api(await open_connection(str(kubeconfig)))
    yield KubernetesNodeDrainer(api, "orbweaver")
    await api.close()


def create_drain_request(server: ApiServer, *pods: str, node: str = NODE) -> None:
    """Request the drain of a node, as an agent does."""
    metadata = {
        "name": node,
        "labels": {DRAIN_LABEL: DRAIN_REQUIRED},
        "annotations": {BLOCKING_PODS: json.dumps(pods)},
    }
    state = {"apiVersion": API_VERSION, "kind": "SriovNetworkNodeState", "metadata": metadata}
    assert server.request("POST", STATES_PATH, state).status == 201


def read_node(server: ApiServer) -> Object:
    return server.request("GET", f"{NODES_PATH}/{NODE}").body


def drain_state(server: ApiServer) -> str:
    metadata = server.request("GET", f"{STATES_PATH}/{NODE}").body["metadata"]
    return str(metadata["annotations"][CURRENT_DRAIN_STATE])


async def test_a_repeated_cordon_or_uncordon_changes_nothing(
    shop: ApiServer, drainer: KubernetesNodeDrainer
) -> None:
    create_drain_request(shop, "shop/web-0")

    # ``observe`` returns the Pods of a drain request only while the Node is cordoned.
    assert (await drainer.observe()).requests == (DrainRequest(NODE),)
    for _ in range(2):
        await drainer.cordon(NODE)
    cordoned_node, observation = read_node(shop), await drainer.observe()
    state_when_cordoned = drain_state(shop)
    for _ in range(2):
        await drainer.uncordon(NODE)

    assert cordoned_node["spec"]["unschedulable"] is True
    assert observation == DrainObservation((DrainRequest(NODE, ("shop/web-0",)),), (NODE,))
    assert (state_when_cordoned, drain_state(shop)) == ("Draining", "Idle")
    assert "unschedulable" not in read_node(shop)["spec"]
    assert (await drainer.observe()).cordoned == ()


async def test_observe_returns_a_limited_number_of_pods_of_a_drain_request(
    shop: ApiServer, drainer: KubernetesNodeDrainer
) -> None:
    create_drain_request(shop, *(f"shop/web-{number}" for number in range(2 * PODS_OBSERVED_MAX)))

    await drainer.cordon(NODE)
    (request,) = (await drainer.observe()).requests

    assert len(request.pods) == PODS_OBSERVED_MAX


async def test_a_drain_request_of_a_deleted_node_is_ignored(
    shop: ApiServer, drainer: KubernetesNodeDrainer
) -> None:
    create_drain_request(shop, node="node-gone")
    create_drain_request(shop)

    observation = await drainer.observe()
    shop.request("DELETE", f"{STATES_PATH}/node-gone")

    assert observation.requests == (DrainRequest(NODE),)


async def test_a_node_that_a_user_has_cordoned_stays_cordoned(
    shop: ApiServer, drainer: KubernetesNodeDrainer
) -> None:
    shop.kubectl("cordon", NODE)

    await drainer.cordon(NODE)
    await drainer.uncordon(NODE)

    assert read_node(shop)["spec"]["unschedulable"] is True


async def test_evict_ignores_missing_pods_and_pods_of_other_nodes(
    shop: ApiServer, drainer: KubernetesNodeDrainer
) -> None:
    create_pod(shop, "web-0", NODE)
    create_pod(shop, "web-1", "node-2")

    refusals = await drainer.evict(NODE, ("shop/web-0", "shop/web-1", "shop/gone"))

    assert refusals == ()
    pods = {pod["metadata"]["name"]: pod for pod in shop.wait_served("/api/v1/pods")["items"]}
    assert "web-0" not in pods or "deletionTimestamp" in pods["web-0"]["metadata"]
    assert "deletionTimestamp" not in pods["web-1"]["metadata"]


async def test_evict_returns_a_refusal_if_a_disruption_budget_protects_the_pod(
    shop: ApiServer, drainer: KubernetesNodeDrainer
) -> None:
    create_pod(shop, "web-0", NODE, labels={"app": "web"})
    budget = {
        "metadata": {"name": "firm"},
        "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "web"}}},
    }
    assert shop.request("POST", BUDGETS_PATH, budget).status == 201
    ready = {"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}}
    path = "/api/v1/namespaces/shop/pods/web-0/status"
    shop.request("PATCH", path, ready, content=MERGE_PATCH)

    (refusal,) = await drainer.evict(NODE, ("shop/web-0",))

    assert refusal.startswith("shop/web-0: ")
    assert "disruption budget" in refusal
    protected_pod = shop.request("GET", "/api/v1/namespaces/shop/pods/web-0").body
    assert "deletionTimestamp" not in protected_pod["metadata"]


async def test_cordon_and_uncordon_of_a_deleted_node_do_nothing(
    drainer: KubernetesNodeDrainer,
) -> None:
    await drainer.cordon("no-such-node")
    await drainer.uncordon("no-such-node")

    assert (await drainer.observe()).cordoned == ()

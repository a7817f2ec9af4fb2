"""The token of an agent's Pod allows writes only to the SriovNetworkNodeState of the Pod's node."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import pytest

from core.errors import ApiError, ApiRejected
from core.kubernetes.api_client import Api
from core.kubernetes.http_connection import open_connection
from core.manifests.kinds.sriov import API_VERSION
from core.manifests.sriov_states import SUCCEEDED, SyncResult, node_state, node_state_status
from nodeagent.kubernetes.sriov_watch import FIELD_MANAGER
from tests.chart.rendering import CHART_NAMESPACE, render_objects
from tests.kubernetes.identities import apply_permissions, kubeconfig_of
from tests.kubernetes.workload_objects import create_pod, delete_workloads
from tests.support.kubernetes import APPLY_PATCH, ApiServer
from tests.support.parts import HELM, needs

pytest.importorskip("helm_python", reason=needs(HELM))

AGENT = "orbweaver-agent"
VALUES = {"sriov": {"install": True}}
ADMISSION_PATH = "/apis/admissionregistration.k8s.io/v1"
PLURALS = {
    "ValidatingAdmissionPolicy": "validatingadmissionpolicies",
    "ValidatingAdmissionPolicyBinding": "validatingadmissionpolicybindings",
}
STATES_PATH = f"/apis/{API_VERSION}/namespaces/{CHART_NAMESPACE}/sriovnetworknodestates"
OWN_NODE, OTHER_NODE = "node-1", "node-2"
DEADLINE_S = 60.0

Connect = Callable[[str, str], Awaitable[Api]]
"""(service account, node) -> a connection to the API server."""


@pytest.fixture
def server_with_policy(server: ApiServer) -> Iterator[ApiServer]:
    rendered = render_objects(VALUES)
    apply_permissions(server, rendered)
    paths_and_policies = [
        (f"{ADMISSION_PATH}/{PLURALS[item['kind']]}/{item['metadata']['name']}", item)
        for item in rendered
        if item["kind"] in PLURALS
    ]
    for path, item in paths_and_policies:
        answer = server.request("PATCH", f"{path}?fieldManager=chart", item, content=APPLY_PATCH)
        assert answer.status == 201, answer.message
    for node in (OWN_NODE, OTHER_NODE):
        server.request("POST", "/api/v1/nodes", {"metadata": {"name": node}})
    yield server
    for path, _ in paths_and_policies:
        server.request("DELETE", path)
    for node in (OWN_NODE, OTHER_NODE):
        server.request("DELETE", f"{STATES_PATH}/{node}")
        server.request("DELETE", f"/api/v1/nodes/{node}")
    delete_workloads(server)
    apply_permissions(server, render_objects({}))


@pytest.fixture
async def connect(server_with_policy: ApiServer, tmp_path: Path) -> AsyncIterator[Connect]:
    """A function that connects with a token that is bound to a Pod on a node.

    For the node "", the token is not bound.
    """
    async with AsyncExitStack() as stack:

        async def open_as(account: str, node: str) -> Api:
            pod = None
            if node:
                spec = {"serviceAccountName": account}
                pod = create_pod(
                    server_with_policy, f"on-{node}", node, spec=spec, namespace=CHART_NAMESPACE
                )
                path = f"/api/v1/namespaces/{CHART_NAMESPACE}/pods/on-{node}?gracePeriodSeconds=0"
                stack.callback(server_with_policy.request, "DELETE", path)
            directory = tmp_path / f"{account}-{node}"
            directory.mkdir()
            kubeconfig = kubeconfig_of(server_with_policy, account, directory, pod)
            api = Api(await open_connection(str(kubeconfig)))
            stack.push_async_callback(api.close)
            return api

        yield open_as


async def is_write_refused(api: Api, node: str) -> bool:
    with suppress(ApiRejected):
        await api.apply(f"{STATES_PATH}/{node}", node_state(node, ()), FIELD_MANAGER)
        return False
    return True


async def until_policy_applies(api: Api) -> None:
    """Wait until the API server enforces the policy; ``api`` connects an agent of ``OWN_NODE``."""
    async with asyncio.timeout(DEADLINE_S):
        while not await is_write_refused(api, OTHER_NODE):
            pass


async def test_an_agent_may_write_only_the_state_of_its_node(connect: Connect) -> None:
    own_agent, other_agent = await connect(AGENT, OWN_NODE), await connect(AGENT, OTHER_NODE)
    await until_policy_applies(own_agent)
    status = node_state_status(OTHER_NODE, (), frozenset(), SyncResult(SUCCEEDED, ""))

    assert not await is_write_refused(own_agent, OWN_NODE)
    assert not await is_write_refused(other_agent, OTHER_NODE)
    assert await is_write_refused(other_agent, OWN_NODE)
    await other_agent.apply(f"{STATES_PATH}/{OTHER_NODE}/status", status, FIELD_MANAGER)
    with pytest.raises(
        ApiError, match=f'"{OWN_NODE}" may not write the state of node "{OTHER_NODE}"'
    ):
        await own_agent.apply(f"{STATES_PATH}/{OTHER_NODE}/status", status, FIELD_MANAGER)
    with pytest.raises(ApiError, match="may not write"):
        await own_agent.merge(f"{STATES_PATH}/{OTHER_NODE}", {"metadata": {"labels": {"a": "b"}}})


async def test_an_unbound_agent_token_may_not_write_states_but_a_controller_may(
    connect: Connect,
) -> None:
    own_agent = await connect(AGENT, OWN_NODE)
    await until_policy_applies(own_agent)
    await own_agent.apply(f"{STATES_PATH}/{OWN_NODE}", node_state(OWN_NODE, ()), FIELD_MANAGER)

    assert await is_write_refused(await connect(AGENT, ""), OWN_NODE)
    controller = await connect("orbweaver-controller", "")
    await controller.merge(f"{STATES_PATH}/{OWN_NODE}", {"metadata": {"annotations": {"a": "b"}}})

"""An agent reads SR-IOV policies from a real API server and writes a SriovNetworkNodeState."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from core.domain.sriov.model import NicName, NicSelector, NodePolicy
from core.domain.sriov.vf_plan import DesiredNic
from core.kubernetes.api_client import Object
from core.manifests.kinds.sriov import API_VERSION
from core.manifests.sriov_states import (
    BLOCKING_PODS,
    DESIRED_DRAIN_STATE,
    DRAIN_LABEL,
    IN_PROGRESS,
    SyncResult,
)
from core.settings.sriov import SriovSettings
from nodeagent.kubernetes.cluster_connection import Cluster, connect_cluster
from nodeagent.kubernetes.sriov_watch import OPERATOR_DAEMON, KubernetesSriov
from nodeagent.settings.agent_settings import Settings
from nodeagent.sriov.reconciler import NodeReport, SriovReconciler
from tests.chart.rendering import render_objects
from tests.kubernetes.identities import apply_permissions, kubeconfig_of
from tests.kubernetes.workload_objects import create_pod, delete_pod, delete_workloads
from tests.nodeagent.sriov.cards import Card, CardHardware
from tests.nodeagent.sriov.guid_log import GuidLog
from tests.support.deadlines import attempts, until
from tests.support.kubernetes import MERGE_PATCH, ApiServer
from tests.support.parts import HELM, needs

pytest.importorskip("helm_python", reason=needs(HELM))

NODE = "node-1"
NAMESPACE = "orbweaver"
"""The agents' namespace, where they write SriovNetworkNodeStates."""

GROUP_PATH = f"/apis/{API_VERSION}"
POLICIES_PATH = f"{GROUP_PATH}/namespaces/shop/sriovnetworknodepolicies"
STATE_PATH = f"{GROUP_PATH}/namespaces/{NAMESPACE}/sriovnetworknodestates/{NODE}"
STATES_CRD_PATH = (
    "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    "/sriovnetworknodestates.sriovnetwork.openshift.io"
)
EMPTY_STATE = {
    "apiVersion": API_VERSION,
    "kind": "SriovNetworkNodeState",
    "metadata": {"name": NODE},
}
NODES_PATH = "/api/v1/nodes"
VALUES = {"sriov": {"install": True}}
WAIT_S_MAX = 60
RAIL_POLICY = {
    "apiVersion": API_VERSION,
    "kind": "SriovNetworkNodePolicy",
    "metadata": {"name": "rail"},
    "spec": {
        "resourceName": "rail",
        "numVfs": 2,
        "nicSelector": {"pfNames": ["ens1f0"]},
        "nodeSelector": {"network": "sriov"},
    },
}


@pytest.fixture
def shop(server: ApiServer) -> Iterator[ApiServer]:
    delete_workloads(server)
    apply_permissions(server, render_objects(VALUES))
    node = {"metadata": {"name": NODE, "labels": {"network": "sriov"}}}
    server.request("POST", NODES_PATH, {"apiVersion": "v1", "kind": "Node"} | node)
    # Another test may have left a Node of this name without the label.
    server.request("PATCH", f"{NODES_PATH}/{NODE}", node, content=MERGE_PATCH)
    address = {"status": {"addresses": [{"type": "InternalIP", "address": "10.6.0.11"}]}}
    server.request("PATCH", f"{NODES_PATH}/{NODE}/status", address, content=MERGE_PATCH)
    yield server
    for name in ("rail", "old"):
        server.request("DELETE", f"{POLICIES_PATH}/{name}")
    server.request("DELETE", STATE_PATH)
    server.request("DELETE", f"{NODES_PATH}/{NODE}")
    delete_workloads(server)
    apply_permissions(server, render_objects({}))


@pytest.fixture
async def cluster(shop: ApiServer, tmp_path: Path) -> AsyncIterator[Cluster]:
    kubeconfig = str(kubeconfig_of(shop, "orbweaver-agent", tmp_path))
    settings = Settings(NODE, kubeconfig=kubeconfig, sriov=SriovSettings())
    selection = settings.selection._replace(agent_namespace=NAMESPACE)
    connection = await connect_cluster(settings._replace(selection=selection))
    assert connection is not None
    yield connection
    await connection.close()


@pytest.fixture
async def source(cluster: Cluster) -> KubernetesSriov:
    assert cluster.sriov is not None
    await until(cluster.sriov.configuration, WAIT_S_MAX)
    return cluster.sriov


NEEDS_DRAIN = NodeReport(
    nics=(),
    external=frozenset(),
    result=SyncResult(IN_PROGRESS, "waits"),
    blocking=("shop/a",),
    needs_drain=True,
)
"""The report of a reconciler that waits until ``shop/a`` uses no virtual function."""


def uid_of_node(server: ApiServer) -> str:
    return str(server.request("GET", f"{NODES_PATH}/{NODE}").body["metadata"]["uid"])


async def test_the_configuration_has_policies_and_the_nodes_labels_and_addresses(
    shop: ApiServer, source: KubernetesSriov
) -> None:
    assert shop.request("POST", POLICIES_PATH, RAIL_POLICY).status == 201

    await source.changed()
    await until(lambda: (configured := source.configuration()) and configured.policies, WAIT_S_MAX)

    configuration = source.configuration()
    assert configuration is not None
    assert configuration.policies == [
        NodePolicy(
            name="rail",
            resource="rail",
            vfs=2,
            nics=NicSelector((NicName("ens1f0"),)),
            nodes={"network": "sriov"},
        )
    ]
    assert configuration.labels["network"] == "sriov"
    assert configuration.own_addresses == ("10.6.0.11",)


async def test_changed_returns_when_the_configuration_becomes_available(
    cluster: Cluster,
) -> None:
    assert cluster.sriov is not None

    async with asyncio.timeout(WAIT_S_MAX):
        while cluster.sriov.configuration() is None:
            await cluster.sriov.changed()

    assert cluster.sriov.configuration() is not None


async def test_a_policy_with_an_unsupported_field_is_skipped_and_listed_as_unreadable(
    shop: ApiServer, source: KubernetesSriov
) -> None:
    spec = RAIL_POLICY["spec"] | {"vdpaType": "virtio"}  # type: ignore[operator]
    shop.request("POST", POLICIES_PATH, RAIL_POLICY | {"metadata": {"name": "old"}, "spec": spec})

    await until(
        lambda: (configured := source.configuration()) and configured.unreadable, WAIT_S_MAX
    )

    configuration = source.configuration()
    assert configuration is not None
    assert configuration.policies == []
    assert configuration.unreadable[0].startswith(
        "shop/old (SriovNetworkNodePolicy): spec.vdpaType"
    )


async def test_the_api_server_refuses_an_unknown_device_type(shop: ApiServer) -> None:
    spec = RAIL_POLICY["spec"] | {"deviceType": "uio"}  # type: ignore[operator]

    answer = shop.request("POST", POLICIES_PATH, RAIL_POLICY | {"spec": spec})

    assert answer.status == 422
    assert "deviceType" in answer.message


async def test_the_configuration_has_the_managed_nics_that_the_state_declares(
    shop: ApiServer, source: KubernetesSriov
) -> None:
    managed_nic = DesiredNic(nic="ens1f0", address="0000:17:00.0", vfs=2)
    foreign_nic = DesiredNic(nic="ens1f1", address="0000:17:00.1", vfs=2, externally_managed=True)

    await source.declare([managed_nic, foreign_nic])
    await until(lambda: (configured := source.configuration()) and configured.managed, WAIT_S_MAX)

    configuration = source.configuration()
    assert configuration is not None
    assert configuration.managed == {"0000:17:00.0"}


async def test_a_report_requests_or_withdraws_a_drain_by_annotations_and_a_label(
    shop: ApiServer, source: KubernetesSriov
) -> None:
    await source.declare([])

    await source.report(NEEDS_DRAIN)
    state_with_request = shop.request("GET", STATE_PATH).body
    await until(lambda: source.states.objects[(NAMESPACE, NODE)].requests_drain, WAIT_S_MAX)
    unblocked = NEEDS_DRAIN._replace(blocking=(), needs_drain=False)
    await source.report(unblocked._replace(keeps_request=True))
    state_with_kept_request = shop.request("GET", STATE_PATH).body
    await source.report(unblocked)
    state_after_withdrawal = shop.request("GET", STATE_PATH).body

    assert state_with_request["metadata"]["annotations"] == {
        DESIRED_DRAIN_STATE: "Drain_Required",
        BLOCKING_PODS: '["shop/a"]',
    }
    assert state_with_request["status"]["syncStatus"] == "InProgress"
    assert state_with_request["metadata"]["labels"] == {DRAIN_LABEL: "Drain_Required"}
    for field in ("annotations", "labels"):
        assert state_with_kept_request["metadata"][field] == state_with_request["metadata"][field]
    (owner,) = state_with_request["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["uid"]) == ("Node", uid_of_node(shop))
    assert state_after_withdrawal["metadata"]["annotations"] == {DESIRED_DRAIN_STATE: "Idle"}
    assert "labels" not in state_after_withdrawal["metadata"]


async def test_withdraw_removes_the_drain_request_and_keeps_the_declared_nics(
    shop: ApiServer, source: KubernetesSriov
) -> None:
    managed_nic = DesiredNic(nic="ens1f0", address="0000:17:00.0", vfs=2)
    await source.declare([managed_nic])
    await source.report(NEEDS_DRAIN)
    await until(lambda: source.states.objects[(NAMESPACE, NODE)].requests_drain, WAIT_S_MAX)

    await source.withdraw_drain_request()

    state = shop.request("GET", STATE_PATH).body
    assert DRAIN_LABEL not in state["metadata"].get("labels", {})
    assert state["metadata"]["annotations"][DESIRED_DRAIN_STATE] == "Idle"
    assert len(state["spec"]["interfaces"]) == 1, "the declared NIC must stay"


async def test_the_configuration_names_the_daemon_of_an_sriov_operator_on_the_node(
    shop: ApiServer, source: KubernetesSriov
) -> None:
    labels = {"app": OPERATOR_DAEMON}
    create_pod(shop, "daemon", NODE, labels=labels)

    await until(lambda: (configured := source.configuration()) and configured.operator, WAIT_S_MAX)
    with_daemon = source.configuration()
    delete_pod(shop, "daemon")
    await until(
        lambda: (configured := source.configuration()) and not configured.operator, WAIT_S_MAX
    )

    assert with_daemon is not None
    assert with_daemon.operator == "shop/daemon"


@pytest.fixture
def crd_without_trust(shop: ApiServer) -> Iterator[None]:
    """Remove ``trust`` and ``spoofChk`` from the CRD; the SR-IOV operator's CRD lacks them."""
    original_spec = shop.request("GET", STATES_CRD_PATH).body["spec"]
    changed_spec = copy.deepcopy(original_spec)
    del vf_fields(changed_spec)["trust"], vf_fields(changed_spec)["spoofChk"]
    shop.request("PATCH", STATES_CRD_PATH, {"spec": changed_spec}, content=MERGE_PATCH)
    shop.request("POST", STATE_PATH.removesuffix(f"/{NODE}"), EMPTY_STATE)
    vf = {"vfID": 0, "pciAddress": "0000:17:01.0", "trust": "on"}
    status = {"status": {"interfaces": [{"pciAddress": "0000:17:00.0", "Vfs": [vf]}]}}
    # Wait until the API server uses the changed CRD and removes the unknown ``trust``.
    for _ in attempts(WAIT_S_MAX):
        stored_status = shop.request(
            "PATCH", f"{STATE_PATH}/status", status, content=MERGE_PATCH
        ).body["status"]
        if stored_status["interfaces"][0]["Vfs"] == [{"vfID": 0, "pciAddress": "0000:17:01.0"}]:
            break
    yield
    shop.request("PATCH", STATES_CRD_PATH, {"spec": original_spec}, content=MERGE_PATCH)


def vf_fields(definition: Object) -> Object:
    schema = definition["versions"][0]["schema"]["openAPIV3Schema"]
    interfaces = schema["properties"]["status"]["properties"]["interfaces"]
    fields: Object = interfaces["items"]["properties"]["Vfs"]["items"]["properties"]
    return fields


def reconciler(source: KubernetesSriov, directory: Path) -> SriovReconciler:
    hardware = CardHardware(Card(directory / "sys", "intel-e810"))
    return SriovReconciler(SriovSettings(), source, hardware, GuidLog().keeper(), withdrawal_s=0)


@pytest.mark.usefixtures("crd_without_trust")
async def test_an_agent_writes_the_status_even_if_the_operators_crd_lacks_trust(
    shop: ApiServer, source: KubernetesSriov, tmp_path: Path
) -> None:
    agent = reconciler(source, tmp_path)
    shop.request("POST", POLICIES_PATH, RAIL_POLICY)
    await until(lambda: (configured := source.configuration()) and configured.policies, WAIT_S_MAX)

    assert await agent.run_round(), agent.fault

    status = shop.request("GET", STATE_PATH).body["status"]
    assert status["syncStatus"] == "Succeeded"
    assert [vf["driver"] for vf in status["interfaces"][0]["Vfs"]] == ["iavf", "iavf"]


async def test_an_agent_applies_a_policy_and_writes_the_status(
    shop: ApiServer, source: KubernetesSriov, tmp_path: Path
) -> None:
    agent = reconciler(source, tmp_path)
    shop.request("POST", POLICIES_PATH, RAIL_POLICY)
    await until(lambda: (configured := source.configuration()) and configured.policies, WAIT_S_MAX)

    assert await agent.run_round()

    state = shop.request("GET", STATE_PATH).body
    assert state["status"]["syncStatus"] == "Succeeded"
    (nic,) = state["status"]["interfaces"]
    assert [vf["driver"] for vf in nic["Vfs"]] == ["iavf", "iavf"]
    assert state["spec"]["interfaces"][0]["vfGroups"][0]["resourceName"] == "rail"
    rows = shop.kubectl("-n", NAMESPACE, "get", "sriovnetworknodestates").splitlines()
    assert rows[1].split()[:2] == [NODE, "Succeeded"]

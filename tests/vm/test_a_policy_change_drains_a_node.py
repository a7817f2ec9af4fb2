"""A policy change drains a node and creates new virtual functions.

The API server, etcd and the controller run on the host. The node is the virtual machine, with
the agent's daemon, an SR-IOV card and a stand-in for kubelet (``cluster_node``).
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from core.manifests.kinds.sriov import API_VERSION
from core.manifests.sriov_states import (
    BLOCKING_PODS,
    DESIRED_DRAIN_STATE,
    DRAIN_LABEL,
    DRAIN_REQUIRED,
)
from tests.chart.rendering import CHART_NAMESPACE, render_objects
from tests.kubernetes.identities import apply_permissions, kubeconfig_of
from tests.kubernetes.workload_objects import create_pod, delete_workloads
from tests.support.controller_process import ControllerProcess
from tests.support.kubernetes import MERGE_PATCH, ApiServer
from tests.support.parts import HELM, VIRTUAL_MACHINE, needs
from tests.support.vm import HOST_ADDRESS, HOST_NIC, VirtualMachine, run_module_in_vm
from tests.vm.cluster_node import CLUSTER_NAME
from tests.vm.sriov_scenarios import NIC_NAME

pytest.importorskip("helm_python", reason=needs(HELM))
pytestmark = [pytest.mark.vm, pytest.mark.slow, pytest.mark.timeout(1_500)]

NODE = "node-vm"
RESOURCE = "spidernet.io/rail"
SRIOV_API = f"/apis/{API_VERSION}/namespaces/{CHART_NAMESPACE}"
POLICIES = f"{SRIOV_API}/sriovnetworknodepolicies"
STATE = f"{SRIOV_API}/sriovnetworknodestates/{NODE}"
NODES = "/api/v1/nodes"
BUDGETS = "/apis/policy/v1/namespaces/shop/poddisruptionbudgets"
POD = "/api/v1/namespaces/shop/pods/web-0"
MACHINE_DEADLINE_S = 1_300.0
CONDITION_DEADLINE_S = 400.0
POLL_S = 0.5
CONF = {"orbweaver": {"sriov": {"enabled": True}}}
BUDGET = {
    "metadata": {"name": "firm"},
    "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "web"}}},
}


def policy(vfs: int) -> dict[str, Any]:
    return {
        "apiVersion": API_VERSION,
        "kind": "SriovNetworkNodePolicy",
        "metadata": {"name": "rail"},
        "spec": {
            "resourceName": "rail",
            "numVfs": vfs,
            "nicSelector": {"pfNames": [NIC_NAME]},
            "nodeSelector": {"network": "sriov"},
            "mtu": 1_600,
            "trust": "on",
        },
    }


class ClusterView:
    """Objects in the API server; each use of a property sends a request."""

    def __init__(self, server: ApiServer) -> None:
        self.server = server

    def read(self, path: str) -> dict[str, Any]:
        """The object at ``path``, or {}."""
        answer = self.server.request("GET", path)
        return answer.body if answer.status == 200 else {}

    @property
    def node(self) -> dict[str, Any]:
        return self.read(f"{NODES}/{NODE}")

    @property
    def is_cordoned(self) -> bool:
        return bool(self.node["spec"].get("unschedulable"))

    @property
    def allocatable(self) -> str:
        return str(self.node.get("status", {}).get("allocatable", {}).get(RESOURCE))

    @property
    def state(self) -> dict[str, Any]:
        return self.read(STATE)

    @property
    def vfs(self) -> list[dict[str, Any]]:
        interfaces = self.state.get("status", {}).get("interfaces", ())
        return [vf for nic in interfaces if nic["name"] == NIC_NAME for vf in nic.get("Vfs", ())]

    @property
    def sync_status(self) -> str:
        return str(self.state.get("status", {}).get("syncStatus"))

    def is_done(self, vfs: int) -> bool:
        return (self.sync_status, len(self.vfs)) == ("Succeeded", vfs)

    async def until(self, condition: Callable[[], object], what: str) -> None:
        deadline = asyncio.get_running_loop().time() + CONDITION_DEADLINE_S
        while not await asyncio.to_thread(condition):
            assert asyncio.get_running_loop().time() < deadline, (
                f"timed out waiting for {what}: {json.dumps([self.node, self.state], indent=1)}"
            )
            await asyncio.sleep(POLL_S)


@pytest.fixture
def cluster(server: ApiServer, tmp_path: Path) -> Iterator[ClusterView]:
    """An API server with the Node and the chart's permissions. Writes kubeconfigs and conf.yml."""
    missing = VirtualMachine.why_not()
    if missing:
        pytest.skip(needs(VIRTUAL_MACHINE, missing))
    delete_workloads(server)
    apply_permissions(server, render_objects({"sriov": {"install": True}}))
    (tmp_path / "conf.yml").write_text(yaml.safe_dump(CONF))
    agent = kubeconfig_of(server, "orbweaver-agent", tmp_path)
    for name, kubeconfig in (("agent", agent), ("kubelet", server.kubeconfig)):
        text = kubeconfig_for_the_machine(kubeconfig.read_text())
        (tmp_path / f"{name}.kubeconfig").write_text(text)
    node = {"kind": "Node", "metadata": {"name": NODE, "labels": {"network": "sriov"}}}
    assert server.request("POST", NODES, node).status == 201
    yield ClusterView(server)
    for path in (f"{BUDGETS}/firm", f"{POLICIES}/rail", f"{NODES}/{NODE}", STATE):
        server.request("DELETE", path)
    delete_workloads(server)
    apply_permissions(server, render_objects({}))


def kubeconfig_for_the_machine(kubeconfig: str) -> str:
    """The virtual machine reaches the API server at ``HOST_ADDRESS``."""
    document = yaml.safe_load(kubeconfig)
    (entry,) = document["clusters"]
    entry["cluster"]["server"] = entry["cluster"]["server"].replace("127.0.0.1", HOST_ADDRESS)
    entry["cluster"]["tls-server-name"] = "localhost"
    return yaml.safe_dump(document)


@pytest.fixture
async def machine(cluster: ClusterView, tmp_path: Path) -> AsyncIterator[asyncio.Task[str]]:
    """Boot the virtual machine; the task returns "" on success, else the faults and the console."""
    (endpoint,) = cluster.server.etcd_endpoints
    etcd = endpoint.replace("127.0.0.1", HOST_ADDRESS)

    def boot() -> str:
        arguments = (str(tmp_path), NODE, etcd)
        findings, console = run_module_in_vm(
            "tests.vm.cluster_node", *arguments, deadline_s=MACHINE_DEADLINE_S, options=HOST_NIC
        )
        faults = [finding.fault for finding in findings]
        return "" if faults == [""] else f"{faults}\n{console}"

    task = asyncio.create_task(asyncio.to_thread(boot))
    yield task
    await asyncio.to_thread(cluster.server.request, "DELETE", f"{NODES}/{NODE}")
    fault = await task
    assert not fault, fault


@pytest.fixture
async def controller(cluster: ClusterView, tmp_path: Path) -> AsyncIterator[ControllerProcess]:
    (endpoint,) = cluster.server.etcd_endpoints
    kubeconfig = kubeconfig_of(cluster.server, "orbweaver-controller", tmp_path)
    options = (f"--kubeconfig={kubeconfig}", "--config-path", str(tmp_path / "conf.yml"))
    module = "tests.vm.controller_with_short_drains"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPIDERPOOL_POD_NAMESPACE", CHART_NAMESPACE)
        process = ControllerProcess(
            "c-1", endpoint, CLUSTER_NAME, tmp_path, *options, module=module
        )
    with process:
        await process.until_ready()
        yield process


def drain_status(server: ApiServer) -> str:
    (endpoint,) = server.etcd_endpoints
    variables = {"ORBWEAVER_ETCD_ENDPOINTS": endpoint, "ORBWEAVER_CLUSTER": CLUSTER_NAME}
    process = subprocess.run(
        [sys.executable, "-m", "ops.cli.main", "workflow", "query", "sriov-drains", "status"],
        env=os.environ | variables,
        capture_output=True,
        text=True,
        check=False,
    )
    return process.stdout


async def test_a_policy_change_evicts_the_pod_and_offers_the_new_vfs(
    cluster: ClusterView, machine: asyncio.Task[str], controller: ControllerProcess
) -> None:
    server = cluster.server
    assert server.request("POST", POLICIES, policy(2)).status == 201
    await cluster.until(lambda: cluster.is_done(2), "2 virtual functions")
    await cluster.until(lambda: cluster.allocatable == "2", "the resource in the Node")
    assert [(vf["trust"], vf["mtu"]) for vf in cluster.vfs] == [("on", 1_600)] * 2

    container = {"name": "main", "image": "none", "resources": {"limits": {RESOURCE: "1"}}}
    assert server.request("POST", BUDGETS, BUDGET).status == 201
    create_pod(server, "web-0", NODE, labels={"app": "web"}, spec={"containers": [container]})
    await cluster.until(
        lambda: [vf.get("assigned") for vf in cluster.vfs].count("true") == 1, "the Pod's device"
    )

    # The disruption budget forbids the eviction: the drain cordons the node, gives up, and
    # uncordons the node.
    changed = {"spec": {"numVfs": 4}}
    assert server.request("PATCH", f"{POLICIES}/rail", changed, content=MERGE_PATCH).status == 200
    await cluster.until(lambda: cluster.is_cordoned, "the cordon")
    annotations = cluster.state["metadata"]["annotations"]
    assert (annotations[DESIRED_DRAIN_STATE], annotations[BLOCKING_PODS]) == (
        DRAIN_REQUIRED,
        '["shop/web-0"]',
    )
    sync_error = cluster.state["status"]["lastSyncError"]
    assert "virtual functions to remove are used by shop/web-0" in sync_error
    await cluster.until(lambda: "shop/web-0" in drain_status(server), "the Pod in the drain status")
    await cluster.until(lambda: not cluster.is_cordoned, "the uncordoned node")
    assert NODE in drain_status(server), "the drain is listed as given up"
    assert "deletionTimestamp" not in cluster.read(POD)["metadata"]
    assert (cluster.sync_status, len(cluster.vfs)) == ("InProgress", 2)
    assert cluster.allocatable == "0", "the NIC offers no devices while the change waits"

    # Without the budget the next drain evicts the Pod.
    assert server.request("DELETE", f"{BUDGETS}/firm").status == 200
    await cluster.until(lambda: cluster.is_done(4), "the new virtual functions")
    await cluster.until(lambda: cluster.allocatable == "4", "the new devices")
    await cluster.until(lambda: not cluster.is_cordoned, "the node in service")
    await cluster.until(lambda: not cluster.read(POD), "the end of the Pod")
    assert DRAIN_LABEL not in cluster.node["metadata"].get("labels", {})
    assert [(vf["trust"], vf["mtu"]) for vf in cluster.vfs] == [("on", 1_600)] * 4

    assert server.request("DELETE", f"{POLICIES}/rail").status == 200
    await cluster.until(lambda: cluster.is_done(0), "no virtual functions")
    server.request("DELETE", f"{NODES}/{NODE}")
    assert await machine == ""

"""An agent finds Pods with RDMA devices, and their top owners, by address.

The top owner is the last in the chain of controllers, for example Pod -> ReplicaSet -> Deployment.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from core.domain.model import Owner
from nodeagent.kubernetes.cluster_connection import Cluster, connect_cluster
from nodeagent.kubernetes.rdma_pods import NETWORK_STATUS, RdmaPodWatch
from nodeagent.rdma.rdma_ports import RdmaPod
from nodeagent.settings.agent_settings import Settings
from tests.chart.rendering import render_objects
from tests.kubernetes.identities import apply_permissions, is_allowed, kubeconfig_of
from tests.kubernetes.objects import Object
from tests.kubernetes.workload_objects import (
    create_pod,
    create_workload,
    define_kind,
    delete_pod,
    delete_workloads,
    owned_by,
    set_status,
    undefine_kind,
)
from tests.support.deadlines import until
from tests.support.kubernetes import ApiServer
from tests.support.parts import HELM, needs

pytest.importorskip("helm_python", reason=needs(HELM))

NODE = "node-1"
AGENT = "orbweaver-agent"
KUBEFLOW = ("kubeflow.org", "v1")
"""Group and version of PyTorchJob, which agents may read."""

SECRETIVE = ("example.com", "v1")
"""Group and version of Secretive, which agents may not read."""

RDMA_DEVICE = {NETWORK_STATUS: json.dumps([{"device-info": {"pci": {"rdma-device": "mlx5_4"}}}])}
VALUES = {"spiderpoolAgent": {"prometheus": {"enabled": True, "enabledRdmaMetric": True}}}


@pytest.fixture
def shop(server: ApiServer) -> Iterator[ApiServer]:
    delete_workloads(server)
    apply_permissions(server, render_objects(VALUES))
    define_kind(server, *KUBEFLOW, "PyTorchJob", "pytorchjobs")
    define_kind(server, *SECRETIVE, "Secretive", "secretives")
    yield server
    delete_workloads(server)
    undefine_kind(server, *KUBEFLOW, "pytorchjobs")
    undefine_kind(server, *SECRETIVE, "secretives")
    apply_permissions(server, render_objects({}))


@pytest.fixture
async def cluster(shop: ApiServer, tmp_path: Path) -> AsyncIterator[Cluster]:
    kubeconfig = str(kubeconfig_of(shop, AGENT, tmp_path))
    settings = Settings(NODE, kubeconfig=kubeconfig, metrics_enabled=True)
    connection = await connect_cluster(settings._replace(rdma_metrics_enabled=True))
    assert connection is not None
    yield connection
    await connection.close()


@pytest.fixture
def rdma_pods(cluster: Cluster) -> RdmaPodWatch:
    assert cluster.rdma_pods is not None
    return cluster.rdma_pods


def create_rdma_pod(
    server: ApiServer, name: str, number: int, owner: Object | None = None, **pod_fields: object
) -> None:
    """Create a running Pod with the addresses 10.6.0.NUMBER and fd00:6::NUMBER."""
    fields = {"annotations": RDMA_DEVICE} | pod_fields
    create_pod(server, name, NODE, owner, **fields)  # type: ignore[arg-type]
    ips = [{"ip": f"10.6.0.{number}"}, {"ip": f"fd00:6::{number}"}]
    set_status(server, name, phase="Running", podIP=ips[0]["ip"], podIPs=ips)


def create_owner(
    server: ApiServer, plural: str, kind: str, group: str, owner: Object | None = None
) -> Object:
    """Create the object ``train`` of this kind."""
    metadata = {"name": "train"} | (owned_by(owner) if owner else {})
    path = f"/apis/{group}/v1/namespaces/shop/{plural}"
    body = {"kind": kind, "apiVersion": f"{group}/v1", "metadata": metadata}
    answer = server.request("POST", path, body)
    assert answer.status == 201, answer.message
    return answer.body


def as_owner(body: Object) -> Owner:
    metadata = body["metadata"]
    return Owner(body["kind"], metadata["name"], "shop", body["apiVersion"], metadata["uid"])


async def test_rdma_pods_are_indexed_by_address_with_their_top_owner(
    shop: ApiServer, rdma_pods: RdmaPodWatch
) -> None:
    def create_objects() -> tuple[Object, Object]:
        deployment = create_workload(shop, "Deployment", "web", replicas=0)
        create_rdma_pod(shop, "web-1", 17, create_workload(shop, "ReplicaSet", "web-a", deployment))
        training = create_owner(shop, "pytorchjobs", "PyTorchJob", KUBEFLOW[0])
        create_rdma_pod(shop, "train-0", 18, training)
        create_rdma_pod(shop, "unowned", 19)
        # The index must not have the following Pods.
        create_rdma_pod(shop, "without-device", 20, annotations={})
        create_rdma_pod(shop, "on-the-host", 21, spec={"hostNetwork": True})
        return deployment, training

    deployment, training = await asyncio.to_thread(create_objects)

    expected = {
        "10.6.0.17": RdmaPod("shop", "web-1", as_owner(deployment)),
        "fd00:6::17": RdmaPod("shop", "web-1", as_owner(deployment)),
        "10.6.0.18": RdmaPod("shop", "train-0", as_owner(training)),
        "fd00:6::18": RdmaPod("shop", "train-0", as_owner(training)),
        "10.6.0.19": RdmaPod("shop", "unowned"),
        "fd00:6::19": RdmaPod("shop", "unowned"),
    }

    def is_complete() -> bool:
        pods = rdma_pods.by_address()
        pods_with_owner = [pod for pod in pods.values() if pod.owner]
        return len(pods) == len(expected) and len(pods_with_owner) == 4

    await until(is_complete)
    assert rdma_pods.by_address() == expected
    await asyncio.to_thread(delete_pod, shop, "unowned")
    await until(lambda: "10.6.0.19" not in rdma_pods.by_address())


async def test_a_pod_is_indexed_without_an_owner_if_its_top_owner_cannot_be_read(
    shop: ApiServer, rdma_pods: RdmaPodWatch
) -> None:
    def create_objects() -> None:
        secretive = create_owner(shop, "secretives", "Secretive", SECRETIVE[0])
        create_rdma_pod(shop, "of-forbidden", 17, secretive)
        training = create_owner(shop, "pytorchjobs", "PyTorchJob", KUBEFLOW[0], secretive)
        create_rdma_pod(shop, "of-forbidden-top", 18, training)
        missing_owner: Object = {"kind": "PyTorchJob", "apiVersion": "kubeflow.org/v1"}
        missing_owner["metadata"] = {"name": "gone", "uid": "0"}
        create_rdma_pod(shop, "of-missing", 19, missing_owner)
        owner_of_unserved_kind = missing_owner | {"kind": "Unserved"}
        create_rdma_pod(shop, "of-unserved-kind", 20, owner_of_unserved_kind)
        owner_of_earlier_uid = missing_owner | {"metadata": {"name": "train", "uid": "0"}}
        create_rdma_pod(shop, "of-earlier-uid", 21, owner_of_earlier_uid)
        # Owners are read in the order of creation, so the owner of ``web-1`` is read last.
        create_rdma_pod(shop, "web-1", 22, create_workload(shop, "ReplicaSet", "web"))

    await asyncio.to_thread(create_objects)

    def is_complete() -> bool:
        pods = rdma_pods.by_address()  # six Pods with two addresses each
        return len(pods) == 12 and pods["10.6.0.22"].owner is not None

    await until(is_complete)
    pods_with_owner = {pod.name for pod in rdma_pods.by_address().values() if pod.owner}
    assert pods_with_owner == {"web-1"}


async def test_an_agent_without_rdma_metrics_watches_no_pods_and_may_not_read_owners(
    shop: ApiServer, tmp_path: Path
) -> None:
    read = {"verb": "get", "group": KUBEFLOW[0], "resource": "pytorchjobs", "namespace": "shop"}
    assert await asyncio.to_thread(lambda: is_allowed(shop, AGENT, **read))
    await asyncio.to_thread(apply_permissions, shop, render_objects({}))
    assert not await asyncio.to_thread(lambda: is_allowed(shop, AGENT, **read))

    kubeconfig = str(kubeconfig_of(shop, AGENT, tmp_path))
    connection = await connect_cluster(Settings(NODE, kubeconfig=kubeconfig, metrics_enabled=True))
    assert connection is not None
    assert connection.rdma_pods is None
    await connection.close()

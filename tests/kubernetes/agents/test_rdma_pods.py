"""The owners of RDMA devices: Pods by address, with their top owners, for labels of counters."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from core.domain.model import Owner
from nodeagent.kubernetes.cluster_connection import Cluster, connect_cluster
from nodeagent.kubernetes.rdma_pods import NETWORK_STATUS, RdmaPodWatch
from nodeagent.rdma.values import RdmaPod
from nodeagent.settings.values import Settings
from tests.chart.rendering import objects
from tests.kubernetes.identities import grant, kubeconfig_of, may
from tests.kubernetes.objects import Object
from tests.kubernetes.workload_objects import (
    create_pod,
    create_set,
    define,
    delete_pod,
    owned_by,
    set_status,
    sweep,
    undefine,
)
from tests.support.deadlines import until
from tests.support.kubernetes import ApiServer
from tests.support.parts import HELM, needs

pytest.importorskip("helm_python", reason=needs(HELM))

NODE = "node-1"
AGENT = "orbweaver-agent"
TRAINING = ("kubeflow.org", "v1")
SECRET = ("example.com", "v1")
DEVICE = {NETWORK_STATUS: json.dumps([{"device-info": {"pci": {"rdma-device": "mlx5_4"}}}])}
VALUES = {"spiderpoolAgent": {"prometheus": {"enabled": True, "enabledRdmaMetric": True}}}
PATIENCE_S = 60


@pytest.fixture
def shop(server: ApiServer) -> Iterator[ApiServer]:
    sweep(server)
    grant(server, objects(VALUES))
    define(server, *TRAINING, "PyTorchJob", "pytorchjobs")
    define(server, *SECRET, "Secretive", "secretives")
    yield server
    sweep(server)
    undefine(server, *TRAINING, "pytorchjobs")
    undefine(server, *SECRET, "secretives")
    grant(server, objects({}))


@pytest.fixture
async def cluster(shop: ApiServer, tmp_path: Path) -> AsyncIterator[Cluster]:
    """The watch of Pods as in an agent, with the permissions of the chart."""
    kubeconfig = str(kubeconfig_of(shop, AGENT, tmp_path))
    settings = Settings(NODE, kubeconfig=kubeconfig, metrics_enabled=True)
    found = await connect_cluster(settings._replace(rdma_metrics_enabled=True))
    assert found is not None
    yield found
    await found.close()


@pytest.fixture
def rdma_pods(cluster: Cluster) -> RdmaPodWatch:
    assert cluster.rdma_pods is not None
    return cluster.rdma_pods


def run(
    server: ApiServer, name: str, last: int, owner: Object | None = None, **more: object
) -> None:
    """Create a running Pod, with a device by default."""
    metadata = {"annotations": DEVICE} | more
    create_pod(server, name, NODE, owner, **metadata)  # type: ignore[arg-type]
    ips = [{"ip": f"10.6.0.{last}"}, {"ip": f"fd00:6::{last}"}]
    set_status(server, name, phase="Running", podIP=ips[0]["ip"], podIPs=ips)


def train(
    server: ApiServer, plural: str, kind: str, group: str, owner: Object | None = None
) -> Object:
    metadata = {"name": "train"} | (owned_by(owner) if owner else {})
    path = f"/apis/{group}/v1/namespaces/shop/{plural}"
    body = {"kind": kind, "apiVersion": f"{group}/v1", "metadata": metadata}
    answer = server.request("POST", path, body)
    assert answer.status == 201, answer.message
    return answer.body


def owner_of(one: Object) -> Owner:
    metadata = one["metadata"]
    return Owner(one["kind"], metadata["name"], "shop", one["apiVersion"], metadata["uid"])


async def test_pods_with_devices_are_known_by_their_addresses_with_the_top_of_their_owners(
    shop: ApiServer, rdma_pods: RdmaPodWatch
) -> None:
    def life() -> tuple[Object, Object]:
        deployment = create_set(shop, "Deployment", "web", replicas=0)
        run(shop, "web-1", 17, create_set(shop, "ReplicaSet", "web-a", deployment))
        training = train(shop, "pytorchjobs", "PyTorchJob", TRAINING[0])
        run(shop, "train-0", 18, training)
        run(shop, "alone", 19)
        run(shop, "plain", 20, annotations={})
        run(shop, "on-the-host", 21, spec={"hostNetwork": True})
        return deployment, training

    deployment, training = await asyncio.to_thread(life)

    wanted = {
        "10.6.0.17": RdmaPod("shop", "web-1", owner_of(deployment)),
        "fd00:6::17": RdmaPod("shop", "web-1", owner_of(deployment)),
        "10.6.0.18": RdmaPod("shop", "train-0", owner_of(training)),
        "fd00:6::18": RdmaPod("shop", "train-0", owner_of(training)),
        "10.6.0.19": RdmaPod("shop", "alone"),
        "fd00:6::19": RdmaPod("shop", "alone"),
    }

    def whole() -> bool:
        found = rdma_pods.by_address()
        return len(found) == len(wanted) and len([1 for one in found.values() if one.owner]) == 4

    await until(whole)
    assert rdma_pods.by_address() == wanted
    await asyncio.to_thread(delete_pod, shop, "alone")
    await until(lambda: "10.6.0.19" not in rdma_pods.by_address())


async def test_whose_owner_may_not_be_read_or_is_gone_has_none(
    shop: ApiServer, rdma_pods: RdmaPodWatch
) -> None:
    def life() -> None:
        secretive = train(shop, "secretives", "Secretive", SECRET[0])
        run(shop, "secret-0", 17, secretive)
        training = train(shop, "pytorchjobs", "PyTorchJob", TRAINING[0], secretive)
        run(shop, "train-0", 18, training)
        gone: Object = {"kind": "PyTorchJob", "apiVersion": "kubeflow.org/v1"}
        gone["metadata"] = {"name": "gone", "uid": "0"}
        run(shop, "orphan", 19, gone)
        unserved = gone | {"kind": "Unserved"}
        run(shop, "strange", 20, unserved)
        other = gone | {"metadata": {"name": "train", "uid": "0"}}
        run(shop, "older", 21, other)
        # When this owner is known, the others were read too.
        run(shop, "web-1", 22, create_set(shop, "ReplicaSet", "web"))

    await asyncio.to_thread(life)

    def done() -> bool:
        found = rdma_pods.by_address()
        return len(found) == 12 and found["10.6.0.22"].owner is not None

    await until(done)
    owners = {one.name: one.owner for one in rdma_pods.by_address().values() if one.owner}
    assert set(owners) == {"web-1"}


async def test_agents_watch_and_read_none_of_it_unless_they_are_asked_to_count(
    shop: ApiServer, tmp_path: Path
) -> None:
    wanted = {"verb": "get", "group": TRAINING[0], "resource": "pytorchjobs", "namespace": "shop"}
    assert await asyncio.to_thread(lambda: may(shop, AGENT, **wanted))
    await asyncio.to_thread(grant, shop, objects({}))
    assert not await asyncio.to_thread(lambda: may(shop, AGENT, **wanted))

    kubeconfig = str(kubeconfig_of(shop, AGENT, tmp_path))
    found = await connect_cluster(Settings(NODE, kubeconfig=kubeconfig, metrics_enabled=True))
    assert found is not None
    assert found.rdma_pods is None
    await found.close()

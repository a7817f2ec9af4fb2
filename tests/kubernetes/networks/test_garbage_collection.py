"""Kubernetes deletes our objects with their owner or namespace, when their finalizers are gone.

An id such as L00008 is a case in docs/contributing/compatibility.md.
"""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from core.kubernetes.api_client import Api, Object
from core.kubernetes.http_connection import open_connection
from ops.kubernetes.custom_resource_writer import ObjectWriter
from ops.kubernetes.network_attachment_definitions import Attachments
from tests.kubernetes.network_harness import DEFAULT_NADS_PATH, NAD_DEFINITION
from tests.kubernetes.objects import create, get, network, path_of, pool
from tests.kubernetes.translator_harness import TranslatorHarness, until
from tests.kubernetes.workload_objects import create_pod, delete_pod, delete_workloads
from tests.support.kubernetes import KUBERNETES_PROGRAMS, ApiServer, missing_programs
from tests.support.node_harness import addresses, check_everything, pod
from tests.support.parts import CONTROLLER_MANAGER, needs

COLLECTORS = "garbage-collector-controller,namespace-controller"
STOP_S = 20.0


@pytest.fixture(scope="module")
def server_with_collector(
    server_with_crds: ApiServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ApiServer]:
    if missing_programs(CONTROLLER_MANAGER):
        pytest.skip(needs(CONTROLLER_MANAGER, f"not in {KUBERNETES_PROGRAMS}"))
    server_with_crds.kubectl("apply", "--server-side", "-f", "-", stdin=NAD_DEFINITION)
    server_with_crds.wait_served(DEFAULT_NADS_PATH)
    log = Path(tmp_path_factory.mktemp("manager")) / "log"
    command = [
        str(KUBERNETES_PROGRAMS / CONTROLLER_MANAGER),
        f"--kubeconfig={server_with_crds.kubeconfig}",
        f"--controllers={COLLECTORS}",
        "--leader-elect=false",
        "--secure-port=0",
    ]
    with log.open("wb") as file:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file, stderr=file)
    yield server_with_crds
    process.kill()
    process.wait(STOP_S)


@pytest.fixture
async def cluster(
    server: ApiServer, server_with_collector: ApiServer
) -> AsyncIterator[TranslatorHarness]:
    """A translator (custom resources -> events), and a node that has read the pool ``blue``."""
    delete_workloads(server)
    async with TranslatorHarness(server) as harness:
        create(server, pool(ips=["10.6.0.10-10.6.0.19"], default=True))
        await harness.until_condition("SpiderIPPool", "blue", "Ready", "True")
        await harness.refresh_node_view()
        yield harness
        await harness.stop_translator()
        await check_everything(harness.node)


def endpoint(server: ApiServer, name: str, namespace: str = "shop") -> Object:
    return get(server, "SpiderEndpoint", name, namespace)


async def test_the_endpoint_of_a_deleted_pod_stays_until_its_addresses_are_released(
    server: ApiServer, cluster: TranslatorHarness
) -> None:
    api_pod = create_pod(server, "web-0", "node-1")
    pod_facts = pod("web-0", api_pod["metadata"]["uid"])
    added = addresses(await cluster.node.add(pod_facts))
    await cluster.until(lambda: endpoint(server, "web-0")["kind"] == "SpiderEndpoint")

    delete_pod(server, "web-0")
    await cluster.until(lambda: "deletionTimestamp" in endpoint(server, "web-0")["metadata"])

    assert set((await cluster.node.read_ledger()).claims) == added
    await cluster.node.delete(pod_facts)
    await cluster.until(lambda: endpoint(server, "web-0").get("code") == 404)


async def test_the_endpoint_of_a_statefulsets_replica_stays_when_its_pod_is_deleted(
    server: ApiServer, cluster: TranslatorHarness
) -> None:
    """L00008."""
    api_pod = create_pod(server, "db-0", "node-1")
    create_pod(server, "web-0", "node-1")
    web = pod("web-0", "uid-of-no-pod")
    await cluster.node.add(pod("db-0", api_pod["metadata"]["uid"], fixed="statefulset"))
    await cluster.node.add(web)
    await cluster.until(lambda: endpoint(server, "db-0")["kind"] == "SpiderEndpoint")

    delete_pod(server, "db-0")
    # The collector runs: it deletes the endpoint web-0, because its owner does not exist.
    await cluster.until(lambda: "deletionTimestamp" in endpoint(server, "web-0")["metadata"])

    assert "deletionTimestamp" not in endpoint(server, "db-0")["metadata"]
    await cluster.node.delete(web)
    delete_pod(server, "web-0")


async def test_a_namespace_is_deleted_once_the_addresses_of_its_pods_are_released(
    server: ApiServer, cluster: TranslatorHarness
) -> None:
    """G00001."""
    server.request("POST", "/api/v1/namespaces", {"metadata": {"name": "fair"}})
    api_pod = create_pod(server, "stall-0", "node-1", namespace="fair")
    pod_facts = pod("stall-0", api_pod["metadata"]["uid"])._replace(namespace="fair")
    await cluster.node.add(pod_facts)
    await cluster.until(lambda: endpoint(server, "stall-0", "fair")["kind"] == "SpiderEndpoint")

    server.request("DELETE", "/api/v1/namespaces/fair")
    server.request("DELETE", "/api/v1/namespaces/fair/pods/stall-0?gracePeriodSeconds=0")
    await cluster.until(
        lambda: "deletionTimestamp" in endpoint(server, "stall-0", "fair")["metadata"]
    )
    before_release = server.request("GET", "/api/v1/namespaces/fair").body
    await cluster.node.delete(pod_facts)

    await cluster.until(lambda: server.request("GET", "/api/v1/namespaces/fair").status == 404)
    assert before_release["status"]["phase"] == "Terminating"


async def test_a_foreground_deletion_of_a_subnet_deletes_its_pools(
    server: ApiServer, cluster: TranslatorHarness
) -> None:
    spec = {"subnet": "10.6.0.0/16", "ips": ["10.6.0.10-10.6.0.19"]}
    create(server, {**pool("wide"), "kind": "SpiderSubnet", "spec": spec})
    await cluster.until_condition("SpiderSubnet", "wide", "Ready", "True")
    await cluster.until(
        lambda: get(server, "SpiderIPPool", "blue")["metadata"].get("ownerReferences")
    )

    path = path_of("SpiderSubnet", "wide")
    body = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Foreground"}
    await asyncio.to_thread(server.request, "DELETE", path, body)

    await cluster.until(lambda: get(server, "SpiderSubnet", "wide").get("code") == 404)
    assert get(server, "SpiderIPPool", "blue").get("code") == 404
    assert not cluster.ledger.pools


async def test_a_nad_is_deleted_with_its_network(
    server: ApiServer, server_with_collector: ApiServer
) -> None:
    """M00008."""
    api = Api(await open_connection(str(server.kubeconfig)))
    attachments = Attachments(api, ObjectWriter(api, "controller-0"))
    attachments_task = asyncio.ensure_future(attachments.run())
    create(server, network("macvlan", macvlan={"master": ["ens3"]}))
    await until(lambda: server.request("GET", f"{DEFAULT_NADS_PATH}/net").status == 200)

    await asyncio.to_thread(server.request, "DELETE", path_of("SpiderMultusConfig", "net"))

    await until(lambda: server.request("GET", f"{DEFAULT_NADS_PATH}/net").status == 404)
    attachments_task.cancel()
    await asyncio.gather(attachments_task, return_exceptions=True)
    await api.close()
    assert attachments.written == 1, "the NAD must not be created again"

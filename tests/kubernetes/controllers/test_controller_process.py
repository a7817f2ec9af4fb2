"""A controller process with the option ``--kubeconfig`` reads and writes Kubernetes objects."""

from __future__ import annotations

import asyncio
from pathlib import Path

from core.eventstore.etcd import EtcdSettings, EtcdStore
from tests.kubernetes.controllers_harness import NODE_NAME
from tests.kubernetes.objects import create, pool
from tests.kubernetes.translator_harness import until_condition
from tests.kubernetes.workload_objects import create_pod, delete_pod
from tests.support.controller_process import ControllerProcess
from tests.support.kubernetes import ApiServer
from tests.support.node_harness import NodeHarness, pod
from tests.support.node_harness import pool as node_pool


async def test_a_controller_with_a_kubeconfig_translates_custom_resources(
    server: ApiServer, tmp_path: Path
) -> None:
    (endpoint,) = server.etcd_endpoints
    option = f"--kubeconfig={server.kubeconfig}"
    create(server, pool())

    # "translating" is the name of the Orbweaver cluster in etcd.
    with ControllerProcess("c-1", endpoint, "translating", tmp_path, option) as controller:
        await controller.until_ready()
        condition = await until_condition(server, "SpiderIPPool", "blue", "Ready", "True")

        assert condition["reason"] == "Applied"
        assert controller.terminate() == 0


async def test_a_controller_reclaims_a_leaked_address_and_exports_metrics_of_its_watches(
    server: ApiServer, tmp_path: Path
) -> None:
    (endpoint,) = server.etcd_endpoints
    option = f"--kubeconfig={server.kubeconfig}"

    with ControllerProcess("c-1", endpoint, "watching", tmp_path, option) as controller:
        health = await controller.until_ready()
        await controller.until_metric("orbweaver_leading", 1)
        await controller.until_metric("orbweaver_cluster_unwatched", 0)
        _, scraped = await asyncio.to_thread(controller.get, controller.metrics_port, "/metrics")

        await leak_address(server, "watching")
        await controller.until_metric("orbweaver_reclaim_addresses_total", 1)

        assert "[+]cluster ok" in health
        assert 'orbweaver_cluster_objects{kind="Pod"' in scraped
        assert 'orbweaver_cluster_reads_total{kind="Node"' in scraped
        assert controller.terminate() == 0


async def leak_address(server: ApiServer, cluster: str) -> None:
    """Give a Pod an address, and delete the Pod without a DEL."""
    store = EtcdStore(EtcdSettings(server.etcd_endpoints))
    async with NodeHarness(store, NODE_NAME, cluster=cluster) as node:
        await node.apply(node_pool("blue", "10.6.0.10"))
        metadata = create_pod(server, "web-0", NODE_NAME)["metadata"]
        await node.add(pod(metadata["name"], metadata["uid"]))
        delete_pod(server, "web-0")
    await store.close()


async def test_a_controller_without_credentials_exits_with_an_error(
    server: ApiServer, tmp_path: Path
) -> None:
    (endpoint,) = server.etcd_endpoints
    (tmp_path / "kubeconfig").write_text("{}")
    option = f"--kubeconfig={tmp_path / 'kubeconfig'}"

    with ControllerProcess("c-1", endpoint, "without-access", tmp_path, option) as controller:
        exit_code = controller.wait()

    assert exit_code == 1
    assert "cannot use the credentials of" in (tmp_path / "c-1.log").read_text()

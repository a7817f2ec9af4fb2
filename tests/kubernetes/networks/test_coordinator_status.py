"""The controller writes CIDRs into the status of a SpiderCoordinator on a real API server.

Without kube-apiserver, the tests run against the package kmock.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from core.kubernetes.api_client import Api, Object
from core.kubernetes.http_connection import open_connection
from ops.kubernetes.coordinator_status import Coordinators
from ops.kubernetes.custom_resource_writer import ObjectWriter
from ops.kubernetes.settings import CoordinatorReconcilerSettings
from tests.kubernetes.objects import coordinator, create, get, path_of
from tests.kubernetes.translator_harness import until
from tests.support.kubernetes import MERGE_PATCH, ApiServer

pytestmark = pytest.mark.simulated

COORDINATOR_KIND = "SpiderCoordinator"
CONFIG_MAPS = "/api/v1/namespaces/kube-system/configmaps"


@pytest.fixture
async def coordinators(server: ApiServer, tmp_path: Path) -> AsyncIterator[Coordinators]:
    """Writes the status of coordinators; reads CNI configurations from ``tmp_path``."""
    api = Api(await open_connection(str(server.kubeconfig)))
    settings = CoordinatorReconcilerSettings(cni_directory=tmp_path)
    coordinators = Coordinators(api, ObjectWriter(api, "controller-0"), settings)
    coordinators_task = asyncio.ensure_future(coordinators.run())
    yield coordinators
    coordinators_task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await coordinators_task
    await api.close()
    for name in ("kubeadm-config", "cilium-config"):
        await asyncio.to_thread(server.request, "DELETE", f"{CONFIG_MAPS}/{name}")


async def create_config_map(server: ApiServer, name: str, **data: str) -> None:
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}
    answer = await asyncio.to_thread(server.request, "POST", CONFIG_MAPS, body)
    assert answer.status == 201, answer.message


async def until_phase(server: ApiServer, phase: str) -> Object:
    """Wait until the coordinator ``default`` has this phase; return its status."""

    def status_in_phase() -> Object | None:
        stored: Object = get(server, COORDINATOR_KIND, "default").get("status") or {}
        return stored if stored.get("phase") == phase else None

    current_status = await until(status_in_phase)
    assert current_status is not None
    return current_status


async def test_the_status_has_the_pod_cidrs_of_kubeadm(
    coordinators: Coordinators, server: ApiServer
) -> None:
    text = "networking: {podSubnet: 10.244.0.0/16, serviceSubnet: 10.97.0.0/16}"
    await create_config_map(server, "kubeadm-config", ClusterConfiguration=text)
    create(server, coordinator(podCIDRType="cluster"))

    current = await until_phase(server, "Synced")
    assert current["overlayPodCIDR"] == ["10.244.0.0/16"]
    # The ServiceCIDR object of the API server has precedence over kubeadm's serviceSubnet.
    assert current["serviceCIDR"] == ["10.96.0.0/16"]


async def test_the_status_has_the_pod_cidrs_of_the_configured_overlay(
    coordinators: Coordinators, server: ApiServer, tmp_path: Path
) -> None:
    (tmp_path / "05-cilium.conflist").write_text('{"name": "cilium"}')
    data = {"ipam": "cluster-pool", "cluster-pool-ipv4-cidr": "10.11.0.0/16"}
    await create_config_map(server, "cilium-config", **data)
    create(server, coordinator())

    assert (await until_phase(server, "Synced"))["overlayPodCIDR"] == ["10.11.0.0/16"]


@pytest.mark.simulated(lacks="kmock does not simulate writes that change nothing")
async def test_the_reason_for_not_ready_names_the_missing_source(
    coordinators: Coordinators, server: ApiServer
) -> None:
    create(server, coordinator(podCIDRType="cilium"))

    assert "cilium-config" in (await until_phase(server, "NotReady"))["reason"]
    assert coordinators.written == 1, "the status must be written once"


@pytest.mark.simulated(lacks="kmock does not simulate writes that change nothing")
async def test_the_finalizer_of_a_deleted_coordinator_is_removed(
    coordinators: Coordinators, server: ApiServer
) -> None:
    config = coordinator(podCIDRType="none")
    config["metadata"]["finalizers"] = ["spiderpool.spidernet.io"]
    create(server, config)
    await until_phase(server, "Synced")
    await asyncio.to_thread(server.request, "DELETE", path_of(COORDINATOR_KIND, "default"))

    await until(lambda: get(server, COORDINATOR_KIND, "default").get("code") == 404)
    assert coordinators.written == 1, "the status must be written once"


async def test_the_status_has_no_reason_that_another_controller_wrote_earlier(
    coordinators: Coordinators, server: ApiServer
) -> None:
    create(server, coordinator(podCIDRType="cilium"))
    await until_phase(server, "NotReady")
    path = path_of(COORDINATOR_KIND, "default")
    earlier_status = {"status": {"reason": "written by Spiderpool"}}
    server.request("PATCH", f"{path}/status", earlier_status, content=MERGE_PATCH)

    server.request("PATCH", path, {"spec": {"podCIDRType": "none"}}, content=MERGE_PATCH)
    current = await until_phase(server, "Synced")

    assert "reason" not in current

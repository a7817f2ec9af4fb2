"""An agent reads the frontends (ClusterIP, port) and backends of Services from an API server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from core.kubernetes.api_client import Api
from core.kubernetes.http_connection import open_connection
from nodeagent.clusterip.clusterip_setup import ClusterIpSettings
from nodeagent.clusterip.frontends import address_text
from nodeagent.kubernetes.cluster_connection import connect_cluster
from nodeagent.kubernetes.service_watch import KubernetesServices, cached_service, cached_slice
from nodeagent.settings.agent_settings import Settings
from tests.kubernetes.translator_harness import until
from tests.support.kubernetes import ApiServer

SLICES_PATH = "/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices"
SERVICES_PATH = "/api/v1/namespaces/shop/services"
WEB_SERVICE = {
    "metadata": {"name": "web"},
    "spec": {
        "ports": [{"name": "http", "port": 80, "targetPort": 8080}],
        "sessionAffinity": "ClientIP",
    },
}


def endpoint_slice(*addresses: str) -> dict[str, object]:
    return {
        "metadata": {"name": "web-1", "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8080}],
        "endpoints": [{"addresses": [address]} for address in addresses],
    }


@pytest.fixture
async def services(server: ApiServer) -> AsyncIterator[KubernetesServices]:
    api = Api(await open_connection(str(server.kubeconfig)))
    services_watch = KubernetesServices(api, "node-1")
    watch_task = asyncio.create_task(services_watch.run())
    yield services_watch
    watch_task.cancel()
    await asyncio.gather(watch_task, return_exceptions=True)
    await api.close()
    for path in (f"{SERVICES_PATH}/web", f"{SLICES_PATH}/web-1"):
        server.request("DELETE", path)


def backends(services: KubernetesServices, address: str) -> list[str] | None:
    """The backends of an address; None if the address is not a ClusterIP."""
    for frontend, backend_group in (services.frontends() or {}).items():
        if address_text(frontend.address) == address:
            return [str(backend) for backend in backend_group.backends]
    return None


async def test_frontends_are_none_before_services_are_listed(server: ApiServer) -> None:
    api = Api(await open_connection(str(server.kubeconfig)))
    assert KubernetesServices(api, "node-1").frontends() is None
    await api.close()


async def test_backends_and_affinity_follow_a_service_and_its_endpoint_slices(
    server: ApiServer, services: KubernetesServices
) -> None:
    service = server.request("POST", SERVICES_PATH, WEB_SERVICE).body
    address = service["spec"]["clusterIP"]
    await until(lambda: backends(services, address) == [])
    server.request("POST", SLICES_PATH, endpoint_slice("10.6.0.1", "10.6.0.2"))
    await until(lambda: backends(services, address) == ["10.6.0.1:8080", "10.6.0.2:8080"])
    async with asyncio.timeout(30):
        change_task = asyncio.create_task(services.changed())
        server.request("DELETE", f"{SLICES_PATH}/web-1")
        await change_task
    await until(lambda: backends(services, address) == [])
    (with_affinity,) = (
        backend_group
        for backend_group in (services.frontends() or {}).values()
        if backend_group.affinity_s
    )
    assert with_affinity.affinity_s == 10_800  # the default timeout of session affinity
    server.request("DELETE", f"{SERVICES_PATH}/web")
    await until(lambda: backends(services, address) is None)


async def test_an_agent_watches_services_only_when_cluster_ip_is_enabled(
    server: ApiServer,
) -> None:
    disabled = Settings("node-1", kubeconfig=str(server.kubeconfig))
    enabled = disabled._replace(cluster_ip=ClusterIpSettings(enabled=True))
    for agent_settings, watches_services in ((enabled, True), (disabled, False)):
        cluster = await connect_cluster(agent_settings)
        assert cluster is not None
        await until(cluster.facts.nodes.listed.is_set)
        if watches_services:
            await until(lambda: cluster.services.frontends() is not None)  # noqa: B023
        assert (cluster.services.frontends() is not None) == watches_services
        await cluster.close()


def test_an_invalid_service_or_slice_is_logged_and_not_served(
    caplog: pytest.LogCaptureFixture,
) -> None:
    invalid = {"namespace": "shop", "name": "invalid", "resourceVersion": "1"}
    service = cached_service({"metadata": invalid, "spec": {"ports": "none"}})
    assert service["service"].addresses == ()
    assert cached_slice({"metadata": invalid})["slice"] is None
    assert caplog.text.count("shop/invalid") == 2


def test_a_slice_with_dns_names_is_not_served_and_nothing_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    metadata = {"namespace": "shop", "name": "web-1", "resourceVersion": "1"}
    slice_with_names = {"metadata": metadata, "addressType": "FQDN", "endpoints": []}

    assert cached_slice(slice_with_names)["slice"] is None
    assert caplog.text == ""

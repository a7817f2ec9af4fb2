"""Services and EndpointSlices of a real API server, as ClusterIPs that a node serves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from core.kubernetes.api import Api
from core.kubernetes.connection import open_connection
from nodeagent.clusterip.clusterip_setup import ClusterIpSettings
from nodeagent.clusterip.frontends import address_text
from nodeagent.kubernetes.cluster_connection import connect_cluster
from nodeagent.kubernetes.services import KubernetesServices, cached_service, cached_slice
from nodeagent.settings.agent_settings import Settings
from tests.kubernetes.translator_harness import until
from tests.support.kubernetes import ApiServer

SLICES = "/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices"
SERVICES = "/api/v1/namespaces/shop/services"
WEB = {
    "metadata": {"name": "web"},
    "spec": {
        "ports": [{"name": "http", "port": 80, "targetPort": 8080}],
        "sessionAffinity": "ClientIP",
    },
}


def slice_with(*addresses: str) -> dict[str, object]:
    return {
        "metadata": {"name": "web-1", "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8080}],
        "endpoints": [{"addresses": [address]} for address in addresses],
    }


@pytest.fixture
async def services(server: ApiServer) -> AsyncIterator[KubernetesServices]:
    api = Api(await open_connection(str(server.kubeconfig)))
    found = KubernetesServices(api, "node-1")
    watching = asyncio.create_task(found.run())
    yield found
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    await api.close()
    for path in (f"{SERVICES}/web", f"{SLICES}/web-1"):
        server.request("DELETE", path)


def backends(services: KubernetesServices, address: str) -> list[str] | None:
    """The backends of an address; None if the address is not a ClusterIP."""
    for frontend, backend_group in (services.frontends() or {}).items():
        if address_text(frontend.address) == address:
            return [str(backend) for backend in backend_group.backends]
    return None


async def test_frontends_are_none_until_services_and_slices_are_listed(server: ApiServer) -> None:
    api = Api(await open_connection(str(server.kubeconfig)))
    assert KubernetesServices(api, "node-1").frontends() is None
    await api.close()


async def test_backends_follow_the_endpoint_slices_of_a_service(
    server: ApiServer, services: KubernetesServices
) -> None:
    service = server.request("POST", SERVICES, WEB).body
    address = service["spec"]["clusterIP"]
    await until(lambda: backends(services, address) == [])
    server.request("POST", SLICES, slice_with("10.6.0.1", "10.6.0.2"))
    await until(lambda: backends(services, address) == ["10.6.0.1:8080", "10.6.0.2:8080"])
    async with asyncio.timeout(30):
        waiting = asyncio.create_task(services.changed())
        server.request("DELETE", f"{SLICES}/web-1")
        await waiting
    await until(lambda: backends(services, address) == [])
    (with_affinity,) = (
        backend_group
        for backend_group in (services.frontends() or {}).values()
        if backend_group.affinity_s
    )
    assert with_affinity.affinity_s == 10_800  # the default timeout of session affinity
    server.request("DELETE", f"{SERVICES}/web")
    await until(lambda: backends(services, address) is None)


async def test_an_agent_watches_services_only_when_cluster_ip_is_enabled(
    server: ApiServer,
) -> None:
    settings = Settings("node-1", kubeconfig=str(server.kubeconfig))
    on = settings._replace(cluster_ip=ClusterIpSettings(enabled=True))
    for agent_settings, watches_services in ((on, True), (settings, False)):
        cluster = await connect_cluster(agent_settings)
        assert cluster is not None
        await until(cluster.facts.nodes.listed.is_set)
        if watches_services:
            await until(lambda: cluster.services.frontends() is not None)  # noqa: B023
        assert (cluster.services.frontends() is not None) == watches_services
        await cluster.close()


def test_a_service_or_slice_that_cannot_be_parsed_is_logged_and_not_served(
    caplog: pytest.LogCaptureFixture,
) -> None:
    metadata = {"namespace": "shop", "name": "odd", "resourceVersion": "1"}
    service = cached_service({"metadata": metadata, "spec": {"ports": "none"}})
    assert service["service"].addresses == ()
    names = {"metadata": metadata, "addressType": "FQDN", "endpoints": []}
    assert cached_slice(names)["slice"] is None
    assert cached_slice({"metadata": metadata})["slice"] is None
    assert caplog.text.count("shop/odd") == 2

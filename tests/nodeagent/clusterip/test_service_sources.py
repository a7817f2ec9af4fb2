"""Frontends and backends are computed from Services and EndpointSlices."""

from __future__ import annotations

from core.domain.services import EndpointSlice, Service, ServicePort, SliceEndpoint
from nodeagent.clusterip.frontends import (
    OTHER_PROXY_LABEL,
    BackendGroup,
    Frontend,
    TransportAddress,
    address_bytes,
    address_text,
    frontends_of,
)
from nodeagent.clusterip.service_sources import ServiceIndex

HTTP = ServicePort(80, "TCP", "http")
SERVICE = Service(("10.96.0.10", "fd00:96::10"), (HTTP, ServicePort(53, "UDP", "dns")))
PORTS = (ServicePort(8080, "TCP", "http"), ServicePort(5353, "UDP", "dns"))


def slice_of(*endpoints: SliceEndpoint, family: int = 4) -> EndpointSlice:
    return EndpointSlice("web", 4 if family == 4 else 6, PORTS, endpoints)


def backends_by_frontend(
    service: Service, *slices: EndpointSlice, **labels: str
) -> dict[str, list[str]]:
    """Frontend (address, port, and 6 for TCP or 17 for UDP) -> backends, as texts."""
    return {
        f"{address_text(frontend.address)} {frontend.port}/{frontend.protocol}": [
            str(backend) for backend in backend_group.backends
        ]
        for frontend, backend_group in frontends_of(service, labels, slices, "node-a").items()
    }


def test_each_frontend_has_the_endpoints_of_its_family_and_port_name() -> None:
    backends = backends_by_frontend(
        SERVICE,
        slice_of(SliceEndpoint(("10.6.0.2",)), SliceEndpoint(("10.6.0.1",))),
        slice_of(SliceEndpoint(("fd00:6::1",)), family=6),
    )
    assert backends == {
        "10.96.0.10 80/6": ["10.6.0.1:8080", "10.6.0.2:8080"],
        "10.96.0.10 53/17": ["10.6.0.1:5353", "10.6.0.2:5353"],
        "fd00:96::10 80/6": ["[fd00:6::1]:8080"],
        "fd00:96::10 53/17": ["[fd00:6::1]:5353"],
    }


def test_an_endpoint_in_two_slices_counts_once() -> None:
    endpoints = slice_of(SliceEndpoint(("10.6.0.1",)))
    backends = backends_by_frontend(SERVICE, endpoints, endpoints)
    assert backends["10.96.0.10 80/6"] == ["10.6.0.1:8080"]


def test_an_endpoint_that_is_not_ready_is_not_a_backend() -> None:
    backends = backends_by_frontend(
        SERVICE,
        slice_of(SliceEndpoint(("10.6.0.1",), ready=False), SliceEndpoint(("10.6.0.2",))),
    )
    assert backends["10.96.0.10 80/6"] == ["10.6.0.2:8080"]


def test_terminating_endpoints_that_serve_are_backends_if_no_endpoint_is_ready() -> None:
    backends = backends_by_frontend(
        SERVICE,
        slice_of(
            SliceEndpoint(("10.6.0.1",), ready=False, serving=True, terminating=True),
            SliceEndpoint(("10.6.0.2",), ready=False, serving=False, terminating=True),
            SliceEndpoint(("10.6.0.3",), ready=False, serving=False),
        ),
    )
    assert backends["10.96.0.10 80/6"] == ["10.6.0.1:8080"]


def test_only_endpoints_of_the_node_are_backends_if_the_traffic_policy_is_local() -> None:
    local_service = SERVICE._replace(local=True)
    on_node = SliceEndpoint(("10.6.0.1",), node="node-a")
    on_other_node = SliceEndpoint(("10.6.0.2",), node="node-b")
    backends = backends_by_frontend(local_service, slice_of(on_node, on_other_node))
    assert backends["10.96.0.10 80/6"] == ["10.6.0.1:8080"]
    assert backends_by_frontend(local_service, slice_of(on_other_node))["10.96.0.10 80/6"] == []


def test_a_service_without_endpoints_has_a_frontend_without_backends() -> None:
    assert backends_by_frontend(SERVICE)["10.96.0.10 80/6"] == []


def test_headless_services_sctp_ports_and_services_of_other_proxies_have_no_frontends() -> None:
    assert backends_by_frontend(Service((), (HTTP,))) == {}
    assert backends_by_frontend(Service(("10.96.0.10",), (ServicePort(80, "SCTP"),))) == {}
    assert frontends_of(SERVICE, {OTHER_PROXY_LABEL: "other"}, [], "node-a") == {}


def test_packed_addresses_of_both_families_can_be_formatted() -> None:
    for text in ("10.96.0.10", "0.0.0.0", "fd00:96::10", "::"):
        assert address_text(address_bytes(text)) == text
    assert address_text(address_bytes("::ffff:10.0.0.1")) == "10.0.0.1"


def test_the_index_has_the_frontends_of_the_current_services_and_slices() -> None:
    index = ServiceIndex("node-a")
    assert index.frontends() == {}
    index.put_slice(("shop", "web-1"), slice_of(SliceEndpoint(("10.6.0.1",))))
    assert index.frontends() == {}
    index.put_service(("shop", "web"), Service(("10.96.0.10",), (HTTP,)), {})
    frontend = Frontend(address_bytes("10.96.0.10"), 80, 6)
    assert index.frontends() == {
        frontend: BackendGroup((TransportAddress(address_bytes("10.6.0.1"), 8080),))
    }
    index.put_slice(("shop", "web-1"), slice_of(SliceEndpoint(("10.6.0.2",))))
    assert index.frontends() == {
        frontend: BackendGroup((TransportAddress(address_bytes("10.6.0.2"), 8080),))
    }
    index.put_slice(("shop", "web-1"), None)
    assert index.frontends() == {frontend: BackendGroup()}
    index.put_service(("shop", "web"), None, {})
    assert index.frontends() == {}


def test_the_first_service_by_name_is_served_if_services_share_an_address() -> None:
    affinity_s_by_name = {"b": 20, "a": 10, "c": 30}
    index = ServiceIndex("node-a")
    for name, affinity_s in affinity_s_by_name.items():
        index.put_service(("shop", name), Service(("10.96.0.10",), (HTTP,), affinity_s), {})
    (backend_group,) = index.frontends().values()
    assert backend_group.affinity_s == affinity_s_by_name["a"]
    index.put_service(("shop", "a"), None, {})
    (backend_group,) = index.frontends().values()
    assert backend_group.affinity_s == affinity_s_by_name["b"]

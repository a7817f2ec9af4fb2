"""Services and EndpointSlices become frontends with backends."""

from __future__ import annotations

from core.domain.services import EndpointSlice, Service, ServicePort, SliceEndpoint
from nodeagent.clusterip.frontends import (
    OTHER_PROXY,
    BackendGroup,
    Frontend,
    TransportAddress,
    address_text,
    frontends_of,
    packed,
)
from nodeagent.clusterip.sources import ServiceIndex

HTTP = ServicePort(80, "TCP", "http")
SERVICE = Service(("10.96.0.10", "fd00:96::10"), (HTTP, ServicePort(53, "UDP", "dns")))
PORTS = (ServicePort(8080, "TCP", "http"), ServicePort(5353, "UDP", "dns"))


def slice_of(*endpoints: SliceEndpoint, family: int = 4) -> EndpointSlice:
    return EndpointSlice("web", 4 if family == 4 else 6, PORTS, endpoints)


def told(service: Service, *slices: EndpointSlice, **labels: str) -> dict[str, list[str]]:
    found = frontends_of(service, labels, slices, "node-a")
    return {
        f"{address_text(one.address)}:{one.port}/{one.protocol}": [
            *map(str, backend_group.backends)
        ]
        for one, backend_group in found.items()
    }


def test_every_address_and_port_leads_to_the_endpoints_of_its_family_and_name() -> None:
    found = told(
        SERVICE,
        slice_of(SliceEndpoint(("10.6.0.2",)), SliceEndpoint(("10.6.0.1",))),
        slice_of(SliceEndpoint(("fd00:6::1",)), family=6),
    )
    assert found == {
        "10.96.0.10:80/6": ["10.6.0.1:8080", "10.6.0.2:8080"],
        "10.96.0.10:53/17": ["10.6.0.1:5353", "10.6.0.2:5353"],
        "fd00:96::10:80/6": ["fd00:6::1:8080"],
        "fd00:96::10:53/17": ["fd00:6::1:5353"],
    }


def test_an_endpoint_in_two_slices_counts_once() -> None:
    one = slice_of(SliceEndpoint(("10.6.0.1",)))
    assert told(SERVICE, one, one)["10.96.0.10:80/6"] == ["10.6.0.1:8080"]


def test_what_is_not_ready_gets_nothing() -> None:
    found = told(
        SERVICE,
        slice_of(SliceEndpoint(("10.6.0.1",), ready=False), SliceEndpoint(("10.6.0.2",))),
    )
    assert found["10.96.0.10:80/6"] == ["10.6.0.2:8080"]


def test_where_nothing_is_ready_what_serves_while_it_ends_gets_all() -> None:
    found = told(
        SERVICE,
        slice_of(
            SliceEndpoint(("10.6.0.1",), ready=False, serving=True, terminating=True),
            SliceEndpoint(("10.6.0.2",), ready=False, serving=False, terminating=True),
            SliceEndpoint(("10.6.0.3",), ready=False, serving=False),
        ),
    )
    assert found["10.96.0.10:80/6"] == ["10.6.0.1:8080"]


def test_local_policy_keeps_to_the_node() -> None:
    local = SERVICE._replace(local=True)
    here, there = (
        SliceEndpoint(("10.6.0.1",), node="node-a"),
        SliceEndpoint(("10.6.0.2",), node="b"),
    )
    assert told(local, slice_of(here, there))["10.96.0.10:80/6"] == ["10.6.0.1:8080"]
    assert told(local, slice_of(there))["10.96.0.10:80/6"] == []


def test_a_service_without_endpoints_is_there_and_leads_nowhere() -> None:
    assert told(SERVICE)["10.96.0.10:80/6"] == []


def test_headless_services_sctp_and_services_of_other_proxies_are_left_alone() -> None:
    assert told(Service((), (HTTP,))) == {}
    assert told(Service(("10.96.0.10",), (ServicePort(80, "SCTP"),))) == {}
    found = frontends_of(SERVICE, {OTHER_PROXY: "somebody"}, [], "node-a")
    assert found == {}


def test_addresses_of_both_families_are_read_back_from_their_bytes() -> None:
    for text in ("10.96.0.10", "0.0.0.0", "fd00:96::10", "::"):
        assert address_text(packed(text)) == text
    assert address_text(packed("::ffff:10.0.0.1")) == "10.0.0.1"


def test_a_book_knows_what_it_was_told_last() -> None:
    book = ServiceIndex("node-a")
    assert book.frontends() == {}
    book.put_slice(("shop", "web-1"), slice_of(SliceEndpoint(("10.6.0.1",))))
    assert book.frontends() == {}
    book.put_service(("shop", "web"), Service(("10.96.0.10",), (HTTP,)), {})
    frontend = Frontend(packed("10.96.0.10"), 80, 6)
    assert book.frontends() == {
        frontend: BackendGroup((TransportAddress(packed("10.6.0.1"), 8080),))
    }
    book.put_slice(("shop", "web-1"), slice_of(SliceEndpoint(("10.6.0.2",))))
    assert book.frontends() == {
        frontend: BackendGroup((TransportAddress(packed("10.6.0.2"), 8080),))
    }
    book.put_slice(("shop", "web-1"), None)
    assert book.frontends() == {frontend: BackendGroup()}
    book.put_service(("shop", "web"), None, {})
    assert book.frontends() == {}


def test_of_two_services_with_one_address_the_first_by_name_has_it() -> None:
    book = ServiceIndex("node-a")
    for name in ("b", "a", "c"):
        book.put_service(
            ("shop", name), Service(("10.96.0.10",), (HTTP,), len(name) + ord(name)), {}
        )
    (backend_group,) = book.frontends().values()
    assert backend_group.affinity_s == 1 + ord("a")
    book.put_service(("shop", "a"), None, {})
    (backend_group,) = book.frontends().values()
    assert backend_group.affinity_s == 1 + ord("b")

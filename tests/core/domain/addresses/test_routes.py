"""Routes are read from an annotation, distributed over NICs and returned in a fixed order."""

from __future__ import annotations

import json
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.domain.addresses.routes import (
    POD_ROUTES,
    ROUTES_MAX,
    distribute_routes,
    requested_routes,
    result_routes,
    unmatched_routes,
)
from core.domain.model import Nic, Pool, Route
from core.domain.request_facts import PodFacts
from core.errors import WrongInput

VIA_4 = Route("10.9.0.0/16", "10.0.0.1")
VIA_6 = Route("fd09::/64", "fd00::1")
POOLS = {
    "four": Pool(
        "four", 4, "10.0.0.0/16", gateway="10.0.0.254", routes=(Route("1.0.0.0/8", "g4"),)
    ),
    "six": Pool("six", 6, "fd00::/64", gateway="fd00::ff", routes=(Route("fd01::/64", "g6"),)),
    "plain": Pool("plain", 4, "10.7.0.0/16", routes=None),
    "empty": Pool("empty", 4, "10.8.0.0/16", routes=()),
}
DUAL_STACK_NIC = Nic(
    "eth0",
    ipv4="10.0.0.7/16",
    ipv4_pool="four",
    ipv4_gateway="10.0.0.254",
    ipv6="fd00::7/64",
    ipv6_pool="six",
    ipv6_gateway="fd00::ff",
)
IPV4_NIC = Nic("net1", ipv4="10.7.0.7/16", ipv4_pool="plain")


def pod_with_routes(annotation: str | None) -> PodFacts:
    annotations = {} if annotation is None else {POD_ROUTES: annotation}
    return PodFacts("shop", "web-0", "uid-1", annotations=annotations)


# Parsing


def test_a_pod_without_the_annotation_requests_no_routes() -> None:
    assert requested_routes(pod_with_routes(None)) == ()
    assert requested_routes(pod_with_routes("null")) == ()
    assert requested_routes(pod_with_routes("[]")) == ()


def test_routes_are_kept_as_written_with_host_bits_and_duplicates() -> None:
    document = """[
        {"dst": "10.9.1.2/16", "gw": "10.0.0.1"},
        {"DST": "10.9.1.2/16", "Gw": "10.0.0.1", "metric": 7},
        {"dst": "0.0.0.0/0", "gw": "10.0.0.1"},
        {"dst": "FD09::/064", "gw": "FD00::0001"}
    ]"""

    assert requested_routes(pod_with_routes(document)) == (
        Route("10.9.1.2/16", "10.0.0.1"),
        Route("10.9.1.2/16", "10.0.0.1"),
        Route("0.0.0.0/0", "10.0.0.1"),
        Route("FD09::/064", "FD00::0001"),
    )


def test_an_ipv4_mapped_route_counts_as_ipv4() -> None:
    document = '[{"dst": "::ffff:11.0.0.0/104", "gw": "10.0.0.1"}]'

    assert requested_routes(pod_with_routes(document)) == (
        Route("::ffff:11.0.0.0/104", "10.0.0.1"),
    )


@pytest.mark.parametrize(
    ("document", "detail"),
    [
        ("", "unexpected end of JSON input"),
        ("{}", "value must be a list, not an object"),
        ('["a"]', "each route must be an object, not a string"),
        ('[{"dst": 1, "gw": "10.0.0.1"}]', "dst must be a string, not a number"),
        (
            '[{"dst": "10.9.0.0/16", "gw": "fd00::1"}]',
            "route 10.9.0.0/16 via fd00::1 mixes IPv4 and IPv6",
        ),
        (
            '[{"dst": "fd00::/64", "gw": "10.0.0.1"}]',
            "route fd00::/64 via 10.0.0.1 mixes IPv4 and IPv6",
        ),
        (
            '[{"dst": "10.9.0.0", "gw": "10.0.0.1"}]',
            "route 10.9.0.0 via 10.0.0.1: '10.9.0.0' has no prefix length",
        ),
        (
            '[{"dst": "10.9.0.0/33", "gw": "10.0.0.1"}]',
            "route 10.9.0.0/33 via 10.0.0.1: '10.9.0.0/33' needs a prefix length",
        ),
        (
            '[{"dst": "10.9.0.0/16", "gw": "10.0.0.0/16"}]',
            "route 10.9.0.0/16 via 10.0.0.0/16: '10.0.0.0/16' has a prefix length; write",
        ),
        ('[{"dst": "10.9.0.0/16"}]', "route 10.9.0.0/16 via : '' is not an IP address"),
        ("[null]", "route  via : '' has no prefix length"),
    ],
)
def test_a_malformed_route_is_wrong_input(document: str, detail: str) -> None:
    with pytest.raises(WrongInput) as caught:
        requested_routes(pod_with_routes(document))

    prefix = "wrong input, invalid format of Pod annotation 'ipam.spidernet.io/routes': "
    assert caught.value.message.startswith(prefix + detail)
    assert caught.value.subject == "Pod/shop/web-0"


def test_too_many_routes_are_refused() -> None:
    routes = [{"dst": "10.9.0.0/16", "gw": "10.0.0.1"}] * (ROUTES_MAX + 1)

    with pytest.raises(WrongInput, match="257 routes, at most 256 are possible"):
        requested_routes(pod_with_routes(json.dumps(routes)))
    assert len(requested_routes(pod_with_routes(json.dumps(routes[1:])))) == ROUTES_MAX


# Distributing


def test_a_nic_stores_pool_routes_then_requested_routes_for_each_family() -> None:
    (nic,) = distribute_routes([DUAL_STACK_NIC], POOLS, [VIA_6, VIA_4])

    assert nic.routes == (Route("1.0.0.0/8", "g4"), VIA_4, Route("fd01::/64", "g6"), VIA_6)


def test_distribution_changes_only_routes_and_keeps_the_order_of_nics() -> None:
    ipv4_nic, dual_stack_nic = distribute_routes([IPV4_NIC, DUAL_STACK_NIC], POOLS, [])

    assert ipv4_nic == IPV4_NIC
    assert dual_stack_nic._replace(routes=()) == DUAL_STACK_NIC


def test_a_pool_whose_routes_are_none_or_empty_adds_no_routes() -> None:
    nics = [IPV4_NIC, Nic("net2", ipv4="10.8.0.7/16", ipv4_pool="empty")]

    assert [nic.routes for nic in distribute_routes(nics, POOLS, [])] == [(), ()]


def test_a_requested_route_goes_to_the_nic_whose_subnet_has_its_gateway() -> None:
    route = Route("10.9.0.0/16", "10.7.0.1")

    dual_stack_nic, ipv4_nic = distribute_routes([DUAL_STACK_NIC, IPV4_NIC], POOLS, [route])

    assert route not in dual_stack_nic.routes
    assert ipv4_nic.routes == (route,)


def test_a_requested_route_goes_only_to_the_first_of_two_matching_nics() -> None:
    same_subnet = IPV4_NIC._replace(interface="net2", ipv4="10.7.0.8/16")
    route = Route("10.9.0.0/16", "10.7.0.1")

    first_nic, second_nic = distribute_routes([IPV4_NIC, same_subnet], POOLS, [route, route])

    assert (first_nic.routes, second_nic.routes) == ((route, route), ())


def test_a_requested_route_without_a_matching_nic_is_reported_and_not_stored() -> None:
    route = Route("10.9.0.0/16", "192.168.0.1")

    (nic,) = distribute_routes([IPV4_NIC], POOLS, [route])

    assert nic.routes == ()
    assert unmatched_routes([IPV4_NIC], [route, Route("10.9.0.0/16", "10.7.0.1")]) == (route,)


def test_a_gateway_of_the_other_family_matches_no_subnet() -> None:
    route = Route("fd09::/64", "::a07:1")  # the gateway has the same number as 10.7.0.1

    assert unmatched_routes([IPV4_NIC], [route]) == (route,)


# Results


def test_a_result_has_pool_then_requested_then_default_routes_for_each_family() -> None:
    (nic,) = distribute_routes([DUAL_STACK_NIC], POOLS, [VIA_6, VIA_4])

    assert result_routes(nic) == (
        Route("1.0.0.0/8", "g4"),
        VIA_4,
        Route("0.0.0.0/0", "10.0.0.254"),
        Route("fd01::/64", "g6"),
        VIA_6,
        Route("::/0", "fd00::ff"),
    )


def test_clean_gateway_omits_the_default_routes_of_both_families() -> None:
    assert result_routes(DUAL_STACK_NIC._replace(clean_gateway=True)) == ()


def test_a_family_without_a_gateway_gets_no_default_route() -> None:
    assert result_routes(DUAL_STACK_NIC._replace(ipv4_gateway="")) == (Route("::/0", "fd00::ff"),)


def test_a_family_without_an_address_gets_no_default_route() -> None:
    assert result_routes(DUAL_STACK_NIC._replace(ipv6="")) == (Route("0.0.0.0/0", "10.0.0.254"),)


def test_a_requested_default_route_precedes_the_default_route_of_the_gateway() -> None:
    (nic,) = distribute_routes([IPV4_NIC], POOLS, [Route("0.0.0.0/0", "10.7.0.1")])

    assert result_routes(nic._replace(ipv4_gateway="10.7.0.254")) == (
        Route("0.0.0.0/0", "10.7.0.1"),
        Route("0.0.0.0/0", "10.7.0.254"),
    )


GATEWAYS = st.sampled_from(
    ["10.0.0.1", "10.7.0.1", "10.8.0.1", "192.168.0.1", "fd00::1", "fd99::1"]
)
ROUTES = st.lists(
    GATEWAYS.map(lambda gw: Route("fd09::/64" if ":" in gw else "10.9.0.0/16", gw)), max_size=8
)
NICS = st.lists(
    st.sampled_from(
        [
            DUAL_STACK_NIC,
            IPV4_NIC,
            Nic("net2", ipv4="10.8.0.7/16", ipv4_pool="empty"),
            Nic("net3", ipv6="fd00::9/64", ipv6_pool="six"),
        ]
    ),
    unique=True,
)


@given(NICS, ROUTES)
def test_no_requested_route_is_lost_or_duplicated(nics: list[Nic], requested: list[Route]) -> None:
    nics_with_routes = distribute_routes(nics, POOLS, requested)

    pool_routes = [
        route
        for nic in nics
        for pool in (nic.ipv4_pool, nic.ipv6_pool)
        if pool
        for route in POOLS[pool].routes or ()
    ]
    stored_routes = [route for nic in nics_with_routes for route in nic.routes]
    unmatched = unmatched_routes(nics, requested)
    assert Counter(stored_routes) + Counter(unmatched) == Counter(pool_routes) + Counter(requested)


@given(NICS, ROUTES, st.booleans())
def test_a_result_adds_only_default_routes_to_the_stored_routes(
    nics: list[Nic], requested: list[Route], clean_gateway: bool
) -> None:
    for nic in distribute_routes(nics, POOLS, requested):
        returned_routes = result_routes(nic._replace(clean_gateway=clean_gateway))
        added_routes = Counter(returned_routes) - Counter(nic.routes)

        assert not Counter(nic.routes) - Counter(returned_routes)
        assert {route.dst for route in added_routes} <= {"0.0.0.0/0", "::/0"}
        assert not (clean_gateway and added_routes)

"""``get -o yaml`` prints manifests that can be applied again; applying them changes nothing."""

from __future__ import annotations

import json

import yaml
from hypothesis import given
from hypothesis import strategies as st

from core.domain.addresses.ip_address import V4, V6, Family
from core.domain.configuration.commands import ApplyPool, ApplyReservation
from core.domain.configuration.configuration_state import Configuration
from core.domain.configuration.decisions import decide
from core.domain.events import RecordDefined
from core.domain.model import Pool, Reservation, Route
from core.domain.patterns.labels import LabelSelector, Requirement
from core.domain.services import EndpointSlice, Service, ServicePort, SliceEndpoint
from core.domain.validation.normalization import normalise_network
from core.manifests.commands import apply_command
from core.manifests.manifest_writer import Allocation, PoolStatus, dump_yaml, to_manifest
from tests.core.manifests.samples import POOL_YAML, pool_of, record_of, reservation_of
from tests.support.manifests import load_documents

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8) | st.sampled_from(
    ["true", "yes", "null", "~", "1", "1.5", "0x1f", "1:30", "2026-01-02", "=", "<<", "a: b", "- a"]
)
LISTS = st.lists(TEXTS, max_size=3).map(tuple)
MAPS = st.dictionaries(TEXTS, TEXTS, max_size=3)
SELECTORS = st.none() | st.builds(
    LabelSelector,
    match_labels=MAPS,
    match_expressions=st.lists(
        st.builds(Requirement, key=TEXTS, operator=TEXTS, values=LISTS), max_size=2
    ).map(tuple),
)
ROUTES = st.none() | st.lists(st.builds(Route, TEXTS, TEXTS), max_size=2).map(tuple)
FAMILIES: st.SearchStrategy[Family] = st.sampled_from([V4, V6])
POOLS = st.builds(
    Pool,
    name=TEXTS,
    family=FAMILIES,
    subnet=TEXTS,
    ips=LISTS,
    exclude_ips=LISTS,
    gateway=TEXTS,
    routes=ROUTES,
    pod_affinity=SELECTORS,
    namespace_affinity=SELECTORS,
    namespace_names=LISTS,
    node_affinity=SELECTORS,
    node_names=LISTS,
    multus_names=LISTS,
    default=st.booleans(),
    disabled=st.booleans(),
    labels=MAPS,
    annotations=MAPS,
    retiring=st.just(value=False),
)
RESERVATIONS = st.builds(
    Reservation, name=TEXTS, family=FAMILIES, ips=LISTS, labels=MAPS, annotations=MAPS
)


@given(POOLS)
def test_a_written_pool_reads_back_as_the_same_pool(pool: Pool) -> None:
    assert pool_of(dump_yaml([to_manifest(pool)])) == pool


@given(RESERVATIONS)
def test_a_written_reservation_reads_back_as_the_same_reservation(reservation: Reservation) -> None:
    assert reservation_of(dump_yaml([to_manifest(reservation)])) == reservation


@given(MAPS, MAPS, st.sampled_from([("", "", ""), ("ReplicaSet", "web", "apps/v1")]))
def test_a_written_record_reads_back_as_the_same_record(
    labels: dict[str, str], annotations: dict[str, str], owner: tuple[str, str, str]
) -> None:
    pod = RecordDefined("Pod", "shop", "web-0", labels, annotations, *owner)
    node = RecordDefined(
        "Node", namespace="", name="node-1", labels=labels, annotations=annotations
    )

    assert record_of(dump_yaml([to_manifest(pod)])) == pod
    assert record_of(dump_yaml([to_manifest(node)])) == node


def test_written_services_and_slices_read_back_as_the_same_records() -> None:
    ports = ServicePort(80, "TCP", "http"), ServicePort(53, "UDP")
    service = Service(("10.96.0.10", "fd00:96::10"), ports, affinity_s=600, local=True)
    terminating_endpoint = SliceEndpoint(("10.6.0.2",), ready=False, serving=True, terminating=True)
    endpoints = SliceEndpoint(("10.6.0.1",), node="node-1"), terminating_endpoint
    labels = {"kubernetes.io/service-name": "web"}
    for record in (
        RecordDefined("Service", "shop", "web", service=service),
        RecordDefined("Service", "shop", "headless", service=Service((), ports)),
        RecordDefined(
            "EndpointSlice",
            "shop",
            "web-1",
            labels=labels,
            slice=EndpointSlice("web", family=4, ports=ports, endpoints=endpoints),
        ),
    ):
        assert record_of(dump_yaml([to_manifest(record)])) == record


def test_applying_the_printed_manifests_produces_no_event() -> None:
    pool = normalise_network(pool_of(POOL_YAML))
    reservation = Reservation("kept", V6, ("fd00::1",))
    configuration = Configuration({"blue": pool}, {"kept": reservation}, {}, {})
    status = PoolStatus(1, {"10.7.0.10": Allocation("shop/web-0", "u")})
    printed = dump_yaml([to_manifest(pool, status), to_manifest(reservation)])

    commands = [apply_command(manifest) for manifest in load_documents(printed)]

    assert commands == [ApplyPool(pool), ApplyReservation(reservation)]
    assert [decide(configuration, command, claimed={}) for command in commands] == [(), ()]


def test_unset_fields_without_a_default_are_omitted() -> None:
    printed = dump_yaml([to_manifest(pool_of(POOL_YAML + "  routes: []\n  gateway: 10.7.0.1\n"))])

    assert printed == (
        "apiVersion: spiderpool.spidernet.io/v2beta1\n"
        "kind: SpiderIPPool\n"
        "metadata:\n"
        "  name: blue\n"
        "spec:\n"
        "  ipVersion: 4\n"
        "  subnet: 10.7.0.0/16\n"
        "  ips:\n"
        "  - 10.7.0.10-10.7.0.20\n"
        "  gateway: 10.7.0.1\n"
        "  routes: []\n"
        "  default: false\n"
        "  disable: false\n"
    )


def test_the_status_has_counts_and_the_allocations_as_json() -> None:
    allocations = {
        "10.7.0.12": Allocation(pod="shop/web-1", pod_uid="u-1"),
        "10.7.0.10": Allocation(pod="shop/web-0", pod_uid="u-0"),
    }
    status = to_manifest(
        pool_of(POOL_YAML), PoolStatus(allocated_count=2, allocations=allocations)
    )["status"]

    assert status == {
        "allocatedIPCount": 2,
        "totalIPCount": 11,
        "allocatedIPs": '{"10.7.0.10":{"pod":"shop/web-0","podUid":"u-0"},'
        '"10.7.0.12":{"pod":"shop/web-1","podUid":"u-1"}}',
    }


def test_without_allocations_the_field_allocated_ips_is_absent() -> None:
    assert to_manifest(pool_of(POOL_YAML), PoolStatus())["status"] == {
        "allocatedIPCount": 0,
        "totalIPCount": 11,
    }
    assert "status" not in to_manifest(pool_of(POOL_YAML))


def test_the_total_of_a_huge_pool_is_limited_to_int64() -> None:
    whole_ipv6 = Pool("all", V6, "::/0", ("::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",))
    status = to_manifest(whole_ipv6, PoolStatus())["status"]

    assert isinstance(status, dict)
    assert status["totalIPCount"] == 2**63 - 1


def test_several_manifests_are_several_documents_without_aliases() -> None:
    shared = {"team": "net"}
    pools = [Pool(name, V4, "10.7.0.0/16", labels=shared, annotations=shared) for name in "ab"]

    text = dump_yaml(map(to_manifest, pools))

    assert [manifest["metadata"]["name"] for manifest in yaml.safe_load_all(text)] == ["a", "b"]
    assert "&id" not in text


@given(POOLS)
def test_a_manifest_reads_back_from_json_as_the_same_manifest(pool: Pool) -> None:
    manifest = to_manifest(pool)

    assert json.loads(json.dumps(manifest)) == manifest

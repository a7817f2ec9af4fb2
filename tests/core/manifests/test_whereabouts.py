"""Ranges, exclusions and allocations of Whereabouts become pools and endpoints."""

from __future__ import annotations

import json
from typing import Any

import pytest

from core.domain.claims.takeover import ForeignCluster
from core.domain.model import Route, pod_holder, stateful_holder
from core.errors import BadInput
from core.manifests.foreign.ipam_configurations import NETWORK_KIND
from core.manifests.foreign.pods import NETWORK_STATUS
from core.manifests.foreign.whereabouts import read_whereabouts
from tests.core.manifests.simulated_import import refusals_of_import

RawObject = dict[str, Any]


def ip_pool(name: str, range_: str, allocations: dict[str, RawObject] | None = None) -> RawObject:
    return {
        "kind": "IPPool",
        "metadata": {"name": name, "namespace": "kube-system"},
        "spec": {"range": range_, "allocations": allocations or {}},
    }


def network(name: str, **ipam: Any) -> RawObject:
    config = {"type": "macvlan", "ipam": {"type": "whereabouts", **ipam}}
    return {
        "kind": NETWORK_KIND,
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {"config": json.dumps(config)},
    }


def node_slice_pool(range_: str, *slice_ranges: str) -> RawObject:
    """A NodeSlicePool with slices for node-a, for node-b, and for no node."""
    nodes = ["node-a", "node-b", ""]
    return {
        "kind": "NodeSlicePool",
        "metadata": {"name": "blue", "namespace": "kube-system"},
        "spec": {"range": range_, "sliceSize": "/28"},
        "status": {
            "allocations": [
                {"nodeName": node, "sliceRange": slice_range}
                for node, slice_range in zip(nodes, slice_ranges, strict=True)
            ]
        },
    }


def running_pod(name: str, owner: str = "ReplicaSet", **interfaces: str) -> RawObject:
    status = [
        {"name": "lan", "interface": interface, "ips": [ip], "mac": "02:00:00:00:00:01"}
        for interface, ip in interfaces.items()
    ]
    return {
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": "shop",
            "uid": f"uid-{name}",
            "annotations": {NETWORK_STATUS: json.dumps(status)},
            "ownerReferences": [{"kind": owner, "name": "web", "controller": True}],
        },
        "spec": {"nodeName": "node-a"},
        "status": {"phase": "Running"},
    }


def read(*objects: RawObject) -> ForeignCluster:
    return read_whereabouts(
        (f"object {value['metadata']['name']}", value) for value in objects
    ).cluster


def test_the_key_of_an_allocation_is_an_offset_from_the_range() -> None:
    pool = ip_pool("10.6.0.16-28", "10.6.0.20/28", {"1": {"podref": "shop/web-0"}})

    cluster = read(pool, running_pod("web-0", net1="10.6.0.21"))

    (endpoint,) = cluster.endpoints
    assert endpoint.nics[0].ipv4 == "10.6.0.21/28"
    assert endpoint.nics[0].interface == "net1"
    assert endpoint.nics[0].mac == "02:00:00:00:00:01"
    assert (endpoint.holder, endpoint.node) == (pod_holder("uid-web-0"), "node-a")
    assert cluster.findings == ()


def test_allocations_keyed_by_address_as_in_old_releases_are_read() -> None:
    pool = ip_pool("10.6.0.0-24", "10.6.0.0/24", {"10.6.0.9": {"podref": "shop/web-0"}})

    (endpoint,) = read(pool, running_pod("web-0")).endpoints

    assert endpoint.nics[0].ipv4 == "10.6.0.9/24"
    assert endpoint.nics[0].interface == ""


def test_a_pool_has_bounds_exclusions_gateway_and_routes_of_the_network() -> None:
    lan = network(
        "lan",
        range="10.6.0.0/24",
        range_start="10.6.0.10",
        range_end="10.6.0.19",
        exclude=["10.6.0.12/31", "10.6.0.15"],
        gateway="10.6.0.1",
        routes=[{"dst": "10.0.0.0/8", "gw": "10.6.0.2"}],
    )

    (foreign,) = read(ip_pool("10.6.0.0-24", "10.6.0.0/24"), lan).pools

    assert foreign.pool.ips == ("10.6.0.10-10.6.0.11", "10.6.0.14", "10.6.0.16-10.6.0.19")
    assert foreign.pool.gateway == "10.6.0.1"
    assert foreign.pool.routes == (Route("10.0.0.0/8", "10.6.0.2"),)
    assert foreign.pool.multus_names == ("shop/lan",)


@pytest.mark.parametrize(
    ("gateway", "findings"),
    [
        ("10.6.0.1", []),
        ("", ["route 0.0.0.0/0 via no gateway: 0.0.0.0/0 is the default route: use spec.gateway"]),
    ],
)
def test_a_network_with_a_default_route_is_imported(gateway: str, findings: list[str]) -> None:
    lan = network("lan", range="10.6.0.0/24", gateway=gateway, routes=[{"dst": "0.0.0.0/0"}])
    pool = ip_pool("10.6.0.0-24", "10.6.0.0/24", {"5": {"podref": "shop/web-0"}})
    cluster = read(pool, lan, running_pod("web-0"))

    assert (cluster.pools[0].pool.gateway, cluster.pools[0].pool.routes) == (gateway, None)
    assert refusals_of_import(cluster) == []
    assert [finding.what for finding in cluster.findings] == findings


def test_a_gateway_in_the_range_is_excluded_unless_a_pod_uses_it() -> None:
    lan = network("lan", range="10.6.0.0/29", gateway="10.6.0.1")
    free_pool = ip_pool("10.6.0.0-29", "10.6.0.0/29")
    used_pool = ip_pool("10.6.0.0-29", "10.6.0.0/29", {"1": {"podref": "shop/web-0"}})

    assert read(free_pool, lan).pools[0].pool.ips == ("10.6.0.2-10.6.0.6",)
    pool_with_gateway = read(used_pool, lan, running_pod("web-0")).pools[0].pool
    # Validation refuses this pool later, because the pool contains its gateway.
    assert pool_with_gateway.ips == ("10.6.0.1-10.6.0.6",)


def test_an_allocated_address_outside_of_the_bounds_stays_in_the_pool() -> None:
    lan = network("lan", range="10.6.0.0/24", range_start="10.6.0.10", range_end="10.6.0.11")
    pool = ip_pool("10.6.0.0-24", "10.6.0.0/24", {"200": {"podref": "shop/web-0"}})

    (foreign,) = read(pool, lan, running_pod("web-0")).pools

    assert foreign.pool.ips == ("10.6.0.10-10.6.0.11", "10.6.0.200")


def test_a_named_network_has_pools_of_its_own() -> None:
    lan = network("lan", range="10.6.0.0/24", network_name="blue", exclude=["10.6.0.0/25"])
    pools = ip_pool("blue-10.6.0.0-24", "10.6.0.0/24"), ip_pool("10.6.0.0-24", "10.6.0.0/24")

    blue, other = read(*pools, lan).pools

    assert blue.pool.ips == ("10.6.0.128-10.6.0.254",)
    assert other.pool.ips == ("10.6.0.1-10.6.0.254",)


def test_a_node_slice_becomes_a_pool_of_only_that_node() -> None:
    """The pool names come from two releases of Whereabouts; ``range_start`` has no effect."""
    lan = network(
        "lan",
        range="10.6.0.0/16",
        range_start="10.6.200.1",
        exclude=["10.6.1.8/29"],
        gateway="10.6.0.1",
        node_slice_size="/28",
        network_name="blue",
    )
    pools = (
        ip_pool("blue-node-a-10.6.0.0-28", "10.6.0.0/28"),
        ip_pool("blue-node-b", "10.6.1.0/28", {"3": {"podref": "shop/web-0"}}),
    )

    cluster = read(
        *pools, lan, node_slice_pool("10.6.0.0/16", "10.6.0.0/28", "10.6.1.0/28", "10.6.2.0/28")
    )

    pools_read = [foreign.pool for foreign in cluster.pools]
    assert [(pool.ips, pool.node_names, pool.gateway) for pool in pools_read] == [
        (("10.6.0.2-10.6.0.14",), ("node-a",), "10.6.0.1"),
        (("10.6.1.1-10.6.1.7",), ("node-b",), ""),
    ]
    assert {pool.multus_names for pool in pools_read} == {("shop/lan",)}
    (unused,) = (finding for finding in cluster.findings if "slice" in finding.what)
    assert (unused.subject, unused.what) == ("NodeSlicePool/blue", "1 slice without a node")


def test_a_sliced_network_without_its_node_slice_pool_is_refused() -> None:
    lan = network("lan", range="10.6.0.0/16", node_slice_size="/28")
    with pytest.raises(BadInput, match="among the nodes"):
        read(ip_pool("node-a-10.6.0.0-28", "10.6.0.0/28"), lan)


def test_addresses_of_both_families_become_one_nic() -> None:
    lan = network("lan", ipRanges=[{"range": "10.6.0.0/24"}, {"range": "fd00:6::/64"}])
    pools = (
        ip_pool("10.6.0.0-24", "10.6.0.0/24", {"5": {"podref": "shop/web-0", "ifname": "net1"}}),
        ip_pool("fd00-6---64", "fd00:6::/64", {"5": {"podref": "shop/web-0", "ifname": "net1"}}),
    )

    cluster = read(*pools, lan, running_pod("web-0"))

    (nic,) = cluster.endpoints[0].nics
    assert (nic.interface, nic.ipv4, nic.ipv6) == ("net1", "10.6.0.5/24", "fd00:6::5/64")
    assert cluster.pools[1].pool.ips == ("fd00:6::1-fd00:6::ffff:ffff:ffff:ffff",)


def test_a_second_address_of_a_family_becomes_a_second_nic() -> None:
    pool = ip_pool(
        "10.6.0.0-24",
        "10.6.0.0/24",
        {"5": {"podref": "shop/web-0"}, "6": {"podref": "shop/web-0"}},
    )

    (endpoint,) = read(pool, running_pod("web-0")).endpoints

    assert [nic.ipv4 for nic in endpoint.nics] == ["10.6.0.5/24", "10.6.0.6/24"]


def test_an_excluded_ipv6_address_excludes_only_itself() -> None:
    lan = network("lan", range="fd00:6::/126", exclude=["fd00:6::2"])

    (foreign,) = read(ip_pool("fd00-6---126", "fd00:6::/126"), lan).pools

    assert foreign.pool.ips == ("fd00:6::1", "fd00:6::3")


def test_a_range_may_be_written_as_first_and_last_address() -> None:
    lan = network("lan", range="10.6.0.10-10.6.0.12/24", routes=[{"dst": "10.0.0.0/8", "mtu": 9}])

    (foreign,) = read(ip_pool("10.6.0.0-24", "10.6.0.0/24"), lan).pools

    assert foreign.pool.ips == ("10.6.0.10-10.6.0.12",)


@pytest.mark.parametrize("range_", ["10.6.0.1/32", "10.6.0.0/31"])
def test_a_range_without_hosts_is_an_empty_pool(range_: str) -> None:
    (foreign,) = read(ip_pool("lan", range_), network("lan", range=range_)).pools

    assert foreign.pool.ips == ()


@pytest.mark.parametrize(
    "ipam",
    [
        {"range": "10.6.0.0/24", "range_start": "ten"},
        {"range": "10.6.0.0/24", "range_start": "10.6.0.9", "range_end": "10.6.0.5"},
        {"range": "10.6.0.0/24", "gateway": "ten"},
        {"range": "10.6.0.0/24", "exclude": ["ten"]},
    ],
)
def test_the_error_of_an_unreadable_network_names_the_network(ipam: RawObject) -> None:
    with pytest.raises(BadInput, match=r"shop/lan\): spec.config"):
        read(ip_pool("10.6.0.0-24", "10.6.0.0/24"), network("lan", **ipam))


@pytest.mark.parametrize(
    ("text", "is_read"),
    [
        ('{"type": "macvlan"', True),
        ('{"ipam": {"type": "whereabouts"}', False),
        pytest.param('{"type": "whereabouts", "a": ' + "[" * 100_000, False, id="deep JSON"),
    ],
)
def test_only_an_unreadable_network_with_whereabouts_stops_the_import(
    text: str, *, is_read: bool
) -> None:
    broken = network("broken") | {"spec": {"config": text}}
    objects = ip_pool("10.6.0.0-24", "10.6.0.0/24"), network("lan", range="10.6.0.0/24"), broken

    if is_read:
        assert read(*objects).pools[0].pool.multus_names == ("shop/lan",)
    else:
        with pytest.raises(BadInput, match="shop/broken"):
            read(*objects)


def test_the_address_of_a_stateful_set_replica_has_a_stateful_holder() -> None:
    pool = ip_pool("10.6.0.0-24", "10.6.0.0/24", {"5": {"podref": "shop/web-0"}})

    (endpoint,) = read(pool, running_pod("web-0", "StatefulSet")).endpoints

    assert endpoint.holder == stateful_holder("statefulset", "shop", "web-0")


@pytest.mark.parametrize("phase", ["", "Succeeded"])
def test_an_address_of_a_deleted_or_ended_pod_is_reported_as_leaked(phase: str) -> None:
    pool = ip_pool("10.6.0.0-24", "10.6.0.0/24", {"5": {"podref": "shop/web-0"}})
    pods = [running_pod("web-0") | {"status": {"phase": phase}}] if phase else []

    cluster = read(pool, *pods)

    assert cluster.endpoints == ()
    assert cluster.findings[0].what.startswith("10.6.0.5 is allocated to shop/web-0")


@pytest.mark.parametrize(
    ("broken", "text"),
    [
        (ip_pool("lan", "10.6.0.0"), "no prefix length"),
        (ip_pool("lan", "10.6.0.0/24", {"5": {"podref": ""}}), "names no Pod"),
        (ip_pool("lan", "10.6.0.0/24", {"five": {"podref": "shop/web-0"}}), "allocations"),
        ({"kind": "IPPool", "metadata": {"name": "lan"}}, "spec"),
    ],
)
def test_the_error_of_an_unreadable_object_names_the_object(broken: RawObject, text: str) -> None:
    with pytest.raises(BadInput, match=rf"object lan \(IPPool.*{text}"):
        read(broken)


@pytest.mark.parametrize("text", ["[", pytest.param("[" * 100_000, id="deep JSON")])
def test_the_error_of_an_unreadable_network_status_names_the_pod(text: str) -> None:
    pod = running_pod("web-0")
    pod["metadata"]["annotations"][NETWORK_STATUS] = text

    with pytest.raises(BadInput, match="web-0"):
        read(ip_pool("lan", "10.6.0.0/24", {"5": {"podref": "shop/web-0"}}), pod)


def test_networks_with_other_ipam_and_objects_of_other_kinds_are_skipped() -> None:
    static = network("lan") | {"spec": {"config": '{"ipam": {"type": "static"}}'}}

    dump = read_whereabouts([("one", static), ("two", {"kind": "Node", "metadata": {}})])

    assert dump.cluster == ForeignCluster()
    assert dump.skipped == {"Node": 1}

"""Ranges of the CNI plugin host-local become pools; address files become endpoints of Pods.

On each node, host-local has a folder for each network, with a file for each address.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from core.domain.claims.takeover import ForeignCluster, plan_takeover
from core.domain.model import Route
from core.errors import BadInput
from core.manifests.foreign.host_local import NodeFiles, read_host_local
from core.manifests.foreign.ipam_configurations import NETWORK_KIND
from core.manifests.foreign.pods import NETWORK_STATUS
from tests.core.manifests.simulated_import import refusals_of_import

RawObject = dict[str, Any]


def conflist(**ipam: Any) -> tuple[str, str]:
    bridge = {"type": "bridge", "ipam": {"type": "host-local", **ipam}}
    plugins = [bridge, {"type": "portmap"}]
    return "10-lan.conflist", json.dumps({"name": "lan", "plugins": plugins})


def one_range(subnet: str, range_start: str = "", range_end: str = "", **fields: str) -> RawObject:
    bounds = {"rangeStart": range_start, "rangeEnd": range_end}
    return {"subnet": subnet, **{key: text for key, text in bounds.items() if text}, **fields}


CONTAINER_ID = "4f5e6d7c8b9a" + "0" * 52
"""A finding shows the first 12 characters of the id."""

LAN = conflist(ranges=[[one_range("10.6.0.0/24")]])


def node(name: str, *addresses: str, configuration: tuple[str, str] | None = LAN) -> NodeFiles:
    """The files of a node, with a folder for the network ``lan``."""
    files = dict.fromkeys(addresses, f"{CONTAINER_ID}\r\neth0")
    files |= {"last_reserved_ip.0": addresses[-1] if addresses else "", "lock": ""}
    return NodeFiles(
        name, configurations=[configuration] if configuration else [], networks={"lan": files}
    )


def pod(
    name: str, node_name: str, *ips: str, phase: str = "Running", **interfaces: str
) -> RawObject:
    status = [{"interface": key, "ips": [ip], "mac": ""} for key, ip in interfaces.items()]
    return {
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": "shop",
            "uid": f"uid-{name}",
            "annotations": {NETWORK_STATUS: json.dumps(status)},
        },
        "spec": {"nodeName": node_name},
        "status": {"phase": phase, "podIPs": [{"ip": ip} for ip in ips]},
    }


def read(nodes: list[NodeFiles], *objects: RawObject) -> ForeignCluster:
    values = ((f"object {value['metadata']['name']}", value) for value in objects)
    return read_host_local(nodes, values).cluster


def findings_of(cluster: ForeignCluster) -> list[tuple[str, str]]:
    return [(finding.what, finding.done) for finding in cluster.findings]


def test_an_address_file_becomes_an_endpoint_of_its_pod() -> None:
    cluster = read([node("node-a", "10.6.0.5")], pod("web-0", "node-a", "10.6.0.5"))

    (endpoint,) = cluster.endpoints
    assert (endpoint.name, endpoint.uid, endpoint.node) == ("web-0", "uid-web-0", "node-a")
    assert (endpoint.nics[0].interface, endpoint.nics[0].ipv4) == ("eth0", "10.6.0.5/24")
    assert cluster.findings == ()


def test_both_families_of_an_interface_are_one_nic() -> None:
    dual_stack = conflist(ranges=[[one_range("10.6.0.0/24")], [one_range("fd00:6::/64")]])
    files = node("node-a", "10.6.0.5", "fd00:6::5", configuration=dual_stack)

    (endpoint,) = read([files], pod("web-0", "node-a", "10.6.0.5", "fd00:6::5")).endpoints

    assert [(nic.ipv4, nic.ipv6) for nic in endpoint.nics] == [("10.6.0.5/24", "fd00:6::5/64")]


@pytest.mark.parametrize(
    ("ipam", "ips", "gateway"),
    [
        (one_range("10.6.0.0/29"), ("10.6.0.2-10.6.0.6",), "10.6.0.1"),
        (one_range("10.6.0.0/24", "10.6.0.8", "10.6.0.9"), ("10.6.0.8-10.6.0.9",), "10.6.0.1"),
        (one_range("10.6.0.0/30", gateway="10.6.0.2"), ("10.6.0.1",), "10.6.0.2"),
        (one_range("fd00:6::/126"), ("fd00:6::2-fd00:6::3",), "fd00:6::1"),
    ],
)
def test_a_pool_excludes_the_gateway_and_the_ipv4_broadcast_address(
    ipam: RawObject, ips: tuple[str, ...], gateway: str
) -> None:
    """The default gateway is the first address of the subnet."""
    (from_list,) = read([node("node-a", configuration=conflist(ranges=[[ipam]]))]).pools
    (from_fields,) = read([node("node-a", configuration=conflist(**ipam))]).pools

    assert from_list == from_fields
    assert (from_list.pool.ips, from_list.pool.gateway) == (ips, gateway)


def test_a_pool_has_the_routes_of_the_configuration_for_its_family() -> None:
    """A route without next hop uses the gateway; the default route is the gateway of the pool."""
    routes = [
        {"dst": "10.0.0.0/8", "gw": "10.6.0.2"},
        {"dst": "10.1.0.0/16"},
        {"dst": "0.0.0.0/0"},
        {"dst": "::/0"},
        {"dst": "fd01::/64", "gw": "fd00:6::2"},
    ]
    ranges = [[one_range("10.6.0.0/24")], [one_range("fd00:6::/64")]]
    files = node("node-a", "10.6.0.5", configuration=conflist(ranges=ranges, routes=routes))
    cluster = read([files], pod("web-0", "node-a", "10.6.0.5"))

    assert [(foreign.pool.gateway, foreign.pool.routes) for foreign in cluster.pools] == [
        ("10.6.0.1", (Route("10.0.0.0/8", "10.6.0.2"), Route("10.1.0.0/16", "10.6.0.1"))),
        ("fd00:6::1", (Route("fd01::/64", "fd00:6::2"),)),
    ]
    assert refusals_of_import(cluster) == []
    assert cluster.findings == ()


@pytest.mark.parametrize("gateway", ["10.9.0.1", "gateway"])
def test_a_route_that_no_pool_can_have_is_reported_and_the_addresses_are_taken_over(
    gateway: str,
) -> None:
    routes = [{"dst": "10.0.0.0/8", "gw": gateway}]
    files = node("node-a", "10.6.0.5", configuration=conflist(subnet="10.6.0.0/24", routes=routes))
    cluster = read([files], pod("web-0", "node-a", "10.6.0.5"))

    assert cluster.pools[0].pool.routes is None
    assert refusals_of_import(cluster) == []
    [(what, _)] = findings_of(cluster)
    assert what.startswith(f"route 10.0.0.0/8 via {gateway}:")


def test_ranges_of_one_subnet_on_several_nodes_become_one_pool() -> None:
    first_range = conflist(ranges=[[one_range("10.6.0.0/24", "10.6.0.10", "10.6.0.19")]])
    second_range = conflist(ranges=[[one_range("10.6.0.0/24", "10.6.0.20", "10.6.0.29")]])

    nodes = [node("node-a", configuration=first_range), node("node-b", configuration=second_range)]
    (foreign,) = read(nodes).pools

    assert foreign.pool.name == "lan-10.6.0.0-24"
    assert foreign.pool.ips == ("10.6.0.10-10.6.0.29",)
    assert foreign.pool.node_names == ()


def test_a_pool_is_limited_to_the_nodes_that_have_its_subnet() -> None:
    other_network = conflist(ranges=[[one_range("10.7.0.0/24")]])

    pools = read([node("node-a"), node("node-b", configuration=other_network)]).pools

    assert [foreign.pool.node_names for foreign in pools] == [("node-a",), ("node-b",)]


def test_the_pool_of_a_multus_network_is_not_limited_to_nodes() -> None:
    ipam = {"type": "host-local", "subnet": "10.8.0.0/24"}
    config = json.dumps({"type": "macvlan", "ipam": ipam})
    metadata = {"name": "lan", "namespace": "shop"}
    network = {"kind": NETWORK_KIND, "metadata": metadata, "spec": {"config": config}}
    files = NodeFiles("node-a", configurations=[], networks={"lan": {"10.8.0.5": "c\r\nnet1"}})

    cluster = read([files], network, pod("web-0", "node-a", "10.9.0.5", net1="10.8.0.5"))

    assert cluster.pools[0].pool.multus_names == ("shop/lan",)
    assert cluster.pools[0].pool.node_names == ()
    assert [nic.interface for nic in cluster.endpoints[0].nics] == ["net1"]


def test_a_network_without_ranges_uses_the_pod_cidrs_of_the_nodes() -> None:
    flannel = "10-flannel.conflist", '{"name": "lan", "plugins": [{"type": "flannel"}]}'
    record = {"kind": "Node", "metadata": {"name": "node-a"}, "spec": {"podCIDRs": ["10.6.3.0/24"]}}
    files = node("node-a", "10.6.3.5", configuration=flannel)

    other_node = {"kind": "Node", "metadata": {"name": "node-b"}}
    cluster = read([files, node("node-b")], record, other_node, pod("web-0", "node-a", "10.6.3.5"))

    pool = next(foreign.pool for foreign in cluster.pools if foreign.pool.subnet == "10.6.3.0/24")
    assert (pool.name, pool.node_names) == ("lan-10.6.3.0-24", ("node-a",))
    assert cluster.endpoints[0].nics[0].ipv4 == "10.6.3.5/24"


@pytest.mark.parametrize("phase", ["", "Succeeded"])
def test_a_file_without_a_living_pod_is_reported_as_leaked(phase: str) -> None:
    pods = [pod("web-0", "node-a", "10.6.0.5", phase=phase)] if phase else []

    cluster = read([node("node-a", "10.6.0.5")], *pods)

    assert cluster.endpoints == ()
    what = "lan/10.6.0.5 belongs to no living Pod (container 4f5e6d7c8b9a)"
    assert findings_of(cluster) == [(what, "leaked: not taken over")]


def test_the_address_of_a_pod_is_taken_over_even_without_a_file() -> None:
    """The folder may have been copied before the Pod got the address."""
    cluster = read([node("node-a")], pod("web-0", "node-a", "10.6.0.5"))

    assert [endpoint.name for endpoint in cluster.endpoints] == ["web-0"]
    what = "shop/web-0 has 10.6.0.5, but node node-a has no file for it"
    assert findings_of(cluster) == [(what, "taken over")]


def test_an_address_of_two_pods_is_taken_over_once() -> None:
    pods = [pod(f"web-{name}", f"node-{name}", "10.6.0.5") for name in "ab"]

    plan = plan_takeover(read([node("node-a", "10.6.0.5"), node("node-b", "10.6.0.5")], *pods))

    assert [endpoint.addresses()[0][0] for endpoint in plan.endpoints] == ["10.6.0.5"]
    assert plan.findings[0].what == "has 10.6.0.5, which another Pod has too"


def test_an_address_outside_every_range_is_reported() -> None:
    files = node("node-a", "10.9.0.5")

    cluster = read([files], pod("web-0", "node-a", "10.9.0.5"))

    assert cluster.endpoints == ()
    what = "lan/10.9.0.5 belongs to shop/web-0, and no range contains it"
    done = "not taken over: add the configuration of this network"
    assert findings_of(cluster) == [(what, done)]


def test_a_pod_in_a_range_is_refused_if_its_node_has_no_folder() -> None:
    """Without the folder, the pool could allocate addresses that the node already uses."""
    text = r"shop/web-0 has 10\.6\.0\.5 .* node node-a\.example\.com has no folder"
    with pytest.raises(BadInput, match=text) as refused:
        read([node("node-a", "10.6.0.5")], pod("web-0", "node-a.example.com", "10.6.0.5"))

    assert refused.value.remedy == "add a folder with the name and the files of that node"


def test_a_pod_outside_every_range_needs_no_node_folder() -> None:
    assert read([node("node-a")], pod("web-0", "node-b", "10.9.0.5")).endpoints == ()


def test_a_folder_without_a_node_of_the_same_name_is_refused() -> None:
    record = {"kind": "Node", "metadata": {"name": "node-a.example.com"}}

    with pytest.raises(BadInput, match="folder node-a does not have the name"):
        read([node("node-a")], record)


def test_a_file_that_may_belong_to_a_starting_pod_is_refused() -> None:
    """host-local writes the file before the address is in the status of the Pod."""
    starting = pod("web-0", "node-a", phase="Pending")

    with pytest.raises(BadInput, match=r"Pods are starting: lan/10\.6\.0\.5 on node node-a"):
        read([node("node-a", "10.6.0.5")], starting)

    assert read([node("node-a")], starting).endpoints == ()


def test_an_unconfigured_network_uses_the_range_that_contains_the_address() -> None:
    other_node = NodeFiles("node-b", configurations=[], networks={"old": {"10.6.0.6": "c\r\neth0"}})
    configured_node = NodeFiles(
        "node-a", configurations=[LAN], networks={"old": {"10.6.0.5": "c\r\neth0"}}
    )
    pods = [pod("web-0", "node-a", "10.6.0.5"), pod("web-1", "node-b", "10.6.0.6")]

    cluster = read([configured_node, other_node], *pods)

    assert [endpoint.nics[0].ipv4 for endpoint in cluster.endpoints] == [
        "10.6.0.5/24",
        "10.6.0.6/24",
    ]
    assert cluster.findings == ()


def test_a_file_whose_name_is_not_an_address_is_reported_and_skipped() -> None:
    files = NodeFiles(
        "node-a", configurations=[LAN], networks={"lan": {"notes.txt": "", "lock": ""}}
    )

    what = "the name of file lan/notes.txt is not an address"
    assert findings_of(read([files])) == [(what, "skipped")]


@pytest.mark.parametrize(
    "ipam",
    [
        one_range("10.6.0.0/ab"),
        one_range("10.6.0.0/24", "ten"),
        one_range("10.6.0.0/24", "10.6.0.9", "10.6.0.5"),
        one_range("10.6.0.0/24", "10.7.0.9"),
        one_range("10.6.0.0/24", gateway="ten"),
    ],
)
def test_the_error_of_an_unreadable_configuration_names_the_file(ipam: RawObject) -> None:
    with pytest.raises(BadInput, match=r"10-lan\.conflist"):
        read([node("node-a", configuration=conflist(ranges=[[ipam]]))])

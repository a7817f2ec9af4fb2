"""Pods with several NICs, with the real kubelet and Multus."""

from __future__ import annotations

import json
from collections.abc import Iterator
from ipaddress import ip_address, ip_network
from typing import Any, NamedTuple

import pytest

from core.manifests.kinds.fields import API_VERSION
from ops.lab.fabric import FABRIC_BRIDGE
from tests.nodes.kubernetes_cluster import KubernetesCluster
from tests.nodes.multus import (
    DEFAULT_NETWORK_ANNOTATION,
    NADS_PATH,
    NETWORKS_ANNOTATION,
    STATUS_ANNOTATION,
    Multus,
    macvlan,
    why_missing,
)
from tests.nodes.workloads import SHOP_NAMESPACE, pod, pool

pytestmark = [
    pytest.mark.etcd,
    pytest.mark.netns,
    pytest.mark.kubelet,
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.skipif(bool(why_missing()), reason=why_missing()),
]

NODE = "node-a"
SUBNETS = {"green": "10.6.0.0/24", "red": "10.7.0.0/24", "blue": "10.8.0.0/24"}
"""Pool -> subnet."""

POOL_OF_NETWORK = {"first": "green", "second": "red", "third": "blue"}
"""SpiderMultusConfig -> pool."""


class Nic(NamedTuple):
    interface: str
    pool: str
    address: str


def gateway(pool_name: str) -> str:
    return str(next(ip_network(SUBNETS[pool_name]).hosts()))


@pytest.fixture(scope="module")
def multus(running_cluster: KubernetesCluster) -> Iterator[None]:
    for name in ("red", "blue"):
        address = f"{gateway(name)}/24"
        running_cluster.laboratory.fabric.namespace.ip(
            "address", "replace", address, "dev", FABRIC_BRIDGE
        )
    running_cluster.apply(
        *(macvlan(name, pool_name) for name, pool_name in POOL_OF_NETWORK.items())
    )
    running_cluster.until(
        lambda: nads(running_cluster) == POOL_OF_NETWORK.keys(), "NADs of the networks"
    )
    with Multus(running_cluster, NODE):
        yield


@pytest.fixture
def cluster_with_pools(multus: None, cluster: KubernetesCluster) -> KubernetesCluster:
    """Create the pools of ``SUBNETS``; only the network ``third`` may use the pool ``blue``."""
    affinities = {"blue": {"multusName": [f"{SHOP_NAMESPACE}/third"]}}
    for name, subnet in SUBNETS.items():
        network = ip_network(subnet)
        spec = {"subnet": subnet, "gateway": gateway(name), **affinities.get(name, {})}
        cluster.apply_pools(pool(name, f"{network[20]}-{network[29]}", **spec))
    return cluster


def nads(cluster: KubernetesCluster) -> set[str]:
    items = cluster.server.request("GET", NADS_PATH).body["items"]
    return {item["metadata"]["name"] for item in items}


def nics_of(cluster: KubernetesCluster, name: str) -> list[Nic]:
    """The NICs in the status of the Pod's SpiderEndpoint, sorted by interface."""
    path = f"/apis/{API_VERSION}/namespaces/{SHOP_NAMESPACE}/spiderendpoints/{name}"
    current: dict[str, Any] = (
        cluster.server.request("GET", path).body.get("status", {}).get("current", {})
    )
    nics = (
        Nic(nic["interface"], nic["ipv4Pool"], nic["ipv4"].partition("/")[0])
        for nic in current.get("ips", ())
    )
    return sorted(nics)


def addresses_by_multus(cluster: KubernetesCluster, name: str) -> dict[str, list[str]]:
    """NIC -> its addresses, from the annotation that Multus writes."""
    api_pod = cluster.server.request("GET", f"/api/v1/namespaces/{SHOP_NAMESPACE}/pods/{name}").body
    statuses = json.loads(api_pod["metadata"]["annotations"].get(STATUS_ANNOTATION, "[]"))
    return {status["interface"]: status.get("ips", []) for status in statuses}


POOLS_BY_INTERFACE = {
    NETWORKS_ANNOTATION: "second@lan1,third",
    "ipam.spidernet.io/ippools": json.dumps(
        [
            {"interface": "net2", "ipv4": ["blue"]},
            {"interface": "eth0", "ipv4": ["green"]},
            {"interface": "lan1", "ipv4": ["red"]},
        ]
    ),
}
"""The annotations assign a pool to each interface name; ``lan1`` is on network ``second``."""

POOLS_IN_ORDER = {
    NETWORKS_ANNOTATION: json.dumps(
        [{"name": "second"}, {"name": "third", "namespace": SHOP_NAMESPACE}]
    ),
    "ipam.spidernet.io/ippools": json.dumps([{"ipv4": [name]} for name in SUBNETS]),
}
"""The annotations list the pools in the order of the interfaces."""

POOLS_OF_NETWORKS = {NETWORKS_ANNOTATION: f"{SHOP_NAMESPACE}/second, {SHOP_NAMESPACE}/third"}
"""The annotation names only networks; ``POOL_OF_NETWORK`` has their pools."""


@pytest.mark.parametrize(
    ("annotations", "second_nic"),
    [(POOLS_BY_INTERFACE, "lan1"), (POOLS_IN_ORDER, "net1"), (POOLS_OF_NETWORKS, "net1")],
    ids=["pools_by_interface", "pools_in_order", "pools_of_networks"],
)
def test_a_pod_gets_addresses_and_routes_for_each_of_its_nics(
    cluster_with_pools: KubernetesCluster, annotations: dict[str, str], second_nic: str
) -> None:
    cluster = cluster_with_pools
    cluster.apply(
        pod(
            "web", {DEFAULT_NETWORK_ANNOTATION: f"{SHOP_NAMESPACE}/first", **annotations}, node=NODE
        )
    )
    (web,) = cluster.wait_for_pods(1)
    cluster.until(lambda: len(nics_of(cluster, "web")) == 3, "the endpoint")
    nics = nics_of(cluster, "web")

    assert {nic.interface: nic.pool for nic in nics} == {
        "eth0": "green",
        second_nic: "red",
        "net2": "blue",
    }
    assert all(ip_address(nic.address) in ip_network(SUBNETS[nic.pool]) for nic in nics)
    assert web.addresses == tuple(nic.address for nic in nics if nic.interface == "eth0")
    assert cluster.claims().keys() == {nic.address for nic in nics}
    assert addresses_by_multus(cluster, "web") == {nic.interface: [nic.address] for nic in nics}

    # A packet leaves by the NIC with the packet's source address. The default route uses eth0.
    main = cluster.run_in_pod("web", "ip", "route", "show", "default").stdout
    assert main.split()[:5] == ["default", "via", gateway("green"), "dev", "eth0"]
    for nic in nics:
        route = cluster.run_in_pod(
            "web", "ip", "route", "get", "192.0.2.200", "from", nic.address
        ).stdout
        if nic.interface != "eth0":
            assert f"via {gateway(nic.pool)} dev {nic.interface}" in route
        ping = cluster.run_in_pod(
            "web", "ping", "-nc1", "-W2", "-I", nic.address, gateway(nic.pool)
        )
        assert ping.returncode == 0, ping.stdout

    cluster.delete_pods()
    assert not cluster.store_reader.read_ledger().endpoints

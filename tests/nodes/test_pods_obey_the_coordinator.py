"""The effects of SpiderCoordinator settings in Pods and on nodes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from core.manifests.kinds.fields import API_VERSION
from ops.lab.fabric import FABRIC_BRIDGE
from ops.lab.http import get
from tests.nodes.kubernetes_cluster import KubernetesCluster
from tests.nodes.multus import (
    DEFAULT_NETWORK_ANNOTATION,
    NETWORKS_ANNOTATION,
    Multus,
    macvlan,
    why_missing,
)
from tests.nodes.test_several_nics_by_multus import nads
from tests.nodes.workloads import SHOP_NAMESPACE, annotated_with_pool, pod, pool

pytestmark = [
    pytest.mark.etcd,
    pytest.mark.netns,
    pytest.mark.kubelet,
    pytest.mark.slow,
    pytest.mark.timeout(300),
]

NODE = "node-a"
CONFIG_MAPS = "/api/v1/namespaces/kube-system/configmaps"
NETWORKS_PATH = f"/apis/{API_VERSION}/namespaces/{SHOP_NAMESPACE}/spidermultusconfigs"
NETWORK_NAMES = ("own", "plain")
"""The SpiderMultusConfig ``own`` has coordinator settings; ``plain`` has none."""

KUBEADM = "networking: {podSubnet: 10.244.0.0/16, serviceSubnet: 10.96.0.0/16}"
"""kubeadm's ClusterConfiguration, from which the controller reads the cluster's CIDRs."""

CLUSTER_IP = "10.96.0.10"
"""The address is in ``serviceSubnet`` of ``KUBEADM``."""

SETTINGS: dict[str, Any] = {
    "hijackCIDR": ["203.0.113.0/24"],
    "policyRoutes": [{"dst": "198.51.100.0/24", "gw": "10.6.0.9"}],
    "podMACPrefix": "0a:1b",
    "hostRuleTable": 600,
    "podRPFilter": 2,
    "hostRPFilter": 0,
    "txQueueLen": 2000,
    "vethLinkAddress": "169.254.100.1",
    "vethMTU": 1400,
}

NODE_RP_FILTER = "net.ipv4.conf.default.rp_filter"
GATED = "gated"
"""A Pod that is never scheduled; the tests ask the agent for this Pod's settings."""


@pytest.fixture
def cluster_with_gated_pod(cluster: KubernetesCluster) -> Iterator[KubernetesCluster]:
    cluster.apply_pools(pool("green", "10.6.0.20-10.6.0.29"))
    gated_pod = pod(GATED, {}, schedulingGates=[{"name": "example.org/never"}])
    gated_pod["metadata"]["namespace"] = "default"
    cluster.apply(gated_pod)
    yield cluster
    cluster.server.request("DELETE", f"{CONFIG_MAPS}/kubeadm-config")
    cluster.delete_pods()
    for name in NETWORK_NAMES:
        cluster.server.request("DELETE", f"{NETWORKS_PATH}/{name}")
    cluster.until(lambda: not nads(cluster) & {*NETWORK_NAMES}, "no NADs of this file")
    cluster.set_coordinator()
    # The default SpiderCoordinator has no podMACPrefix.
    wait_for_agent_settings(
        cluster, lambda status, settings: status == 200 and "podMACPrefix" not in settings
    )
    cluster.server.kubectl("delete", "pod", GATED, "--namespace", "default", "--now")


def create_kubeadm_config(cluster: KubernetesCluster) -> None:
    body = {"metadata": {"name": "kubeadm-config"}, "data": {"ClusterConfiguration": KUBEADM}}
    answer = cluster.server.request("POST", CONFIG_MAPS, body)
    assert answer.status == 201, answer.message


def wait_for_agent_settings(
    cluster: KubernetesCluster, holds: Callable[[int, dict[str, Any]], bool]
) -> None:
    """Wait until ``holds`` accepts the HTTP status and the settings of the agent's response."""
    socket = cluster.nodes[NODE].node.socket
    request = json.dumps({"podNamespace": "default", "podName": GATED})

    def has_settings() -> bool:
        status, body = get(socket, "/v1/coordinator/config", request)
        return holds(status, json.loads(body) if status == 200 else {})

    cluster.until(has_settings, "the settings of the agent")


def route_to(cluster: KubernetesCluster, name: str, destination: str) -> str:
    return cluster.run_in_pod(name, "ip", "route", "get", destination).stdout


def link(cluster: KubernetesCluster, name: str, interface: str) -> dict[str, Any]:
    """An interface of a Pod, as ``ip -json link`` prints it."""
    (printed,) = json.loads(
        cluster.run_in_pod(name, "ip", "-json", "link", "show", interface).stdout
    )
    return dict(printed)


def test_every_setting_of_the_spidercoordinator_has_its_effect_in_a_pod(
    cluster_with_gated_pod: KubernetesCluster,
) -> None:
    cluster, node = cluster_with_gated_pod, cluster_with_gated_pod.nodes[NODE].node
    create_kubeadm_config(cluster)
    node.namespace.run("sysctl", "-qw", f"{NODE_RP_FILTER}=2")
    cluster.set_coordinator(podCIDRType="cluster", **SETTINGS)
    wait_for_agent_settings(
        cluster, lambda _, settings: settings.get("overlayPodCIDR") == ["10.244.0.0/16"]
    )
    cluster.apply(pod("alpha", annotated_with_pool("green"), node=NODE))
    (alpha,) = cluster.wait_for_pods(1)
    address = alpha.addresses[0]

    # A ClusterIP, an address in podSubnet, and an address in hijackCIDR are routed via the node.
    for destination in (CLUSTER_IP, "10.244.3.4", "203.0.113.9"):
        assert "dev veth0" in route_to(cluster, "alpha", destination), destination
    # The pool's gateway is 10.6.0.1; policyRoutes has the gateway 10.6.0.9.
    assert "via 10.6.0.1 dev eth0" in route_to(cluster, "alpha", "198.18.0.1")
    assert "via 10.6.0.9 dev eth0" in route_to(cluster, "alpha", "198.51.100.7")

    eth0, veth0 = link(cluster, "alpha", "eth0"), link(cluster, "alpha", "veth0")
    last_byte = int(address.rpartition(".")[2])
    assert eth0["address"] == f"0a:1b:0a:06:00:{last_byte:02x}"  # prefix and IPv4 address
    assert eth0["txqlen"] == 2000
    assert veth0["mtu"] == 1400
    assert (
        "169.254.100.1/32"
        in cluster.run_in_pod("alpha", "ip", "-4", "addr", "show", "veth0").stdout
    )
    rp_filter = cluster.run_in_pod("alpha", "cat", "/proc/sys/net/ipv4/conf/all/rp_filter").stdout
    assert rp_filter.strip() == "2"
    assert node.namespace.run("sysctl", "-n", NODE_RP_FILTER).strip() == "0"

    assert address in node.namespace.ip("route", "show", "table", "600")
    assert "lookup 600" in node.namespace.ip("rule")
    assert cluster.pings("alpha", node.address)


def test_pods_wait_until_the_controller_finds_the_clusters_cidrs(
    cluster_with_gated_pod: KubernetesCluster,
) -> None:
    cluster = cluster_with_gated_pod
    cluster.set_coordinator("NotReady", podCIDRType="cluster")
    wait_for_agent_settings(cluster, lambda status, _: status == 500)
    cluster.apply(pod("alpha", annotated_with_pool("green"), node=NODE))

    not_ready = "spidercoordinator: default no ready"
    cluster.until(lambda: not_ready in cluster.events("alpha"), "the event")
    reason = "No kube-controller-manager pod found, unable to get clusterCIDR"
    assert reason in cluster.events("alpha")

    create_kubeadm_config(cluster)
    cluster.set_coordinator(podCIDRType="cluster", podMACPrefix="0a:1b")
    cluster.wait_for_pods(1)
    assert "dev veth0" in route_to(cluster, "alpha", CLUSTER_IP)


@pytest.mark.skipif(bool(why_missing()), reason=why_missing())
def test_settings_of_a_network_override_the_settings_of_the_spidercoordinator(
    cluster_with_gated_pod: KubernetesCluster,
) -> None:
    cluster = cluster_with_gated_pod
    cluster.laboratory.fabric.namespace.ip("address", "add", "10.9.0.1/24", "dev", FABRIC_BRIDGE)
    cluster.apply_pools(
        pool("lan", "10.9.0.20-10.9.0.29", subnet="10.9.0.0/24", gateway="10.9.0.1")
    )
    settings = {name: SETTINGS[name] for name in ("podMACPrefix", "vethMTU")}
    cluster.set_coordinator(podDefaultRouteNIC="net1", **settings)
    wait_for_agent_settings(
        cluster, lambda _, settings: settings.get("podDefaultRouteNIC") == "net1"
    )
    own = macvlan("own", "green")
    own["spec"]["coordinator"] |= {"podMACPrefix": "0a:2b", "vethMTU": 1300}
    cluster.apply(own, macvlan("plain", "lan"))
    with Multus(cluster, NODE):
        networks = {
            DEFAULT_NETWORK_ANNOTATION: f"{SHOP_NAMESPACE}/own",
            NETWORKS_ANNOTATION: f"{SHOP_NAMESPACE}/plain",
        }
        cluster.apply(pod("alpha", networks, node=NODE))
        cluster.wait_for_pods(1)

        # The network ``own`` configures eth0 and veth0; the SpiderCoordinator configures net1.
        assert link(cluster, "alpha", "eth0")["address"].startswith("0a:2b:")
        assert link(cluster, "alpha", "veth0")["mtu"] == 1300
        assert link(cluster, "alpha", "net1")["address"].startswith("0a:1b:")
        default = cluster.run_in_pod("alpha", "ip", "route", "show", "default").stdout
        assert default.split()[:5] == ["default", "via", "10.9.0.1", "dev", "net1"]
        assert "dev veth0" in route_to(cluster, "alpha", CLUSTER_IP)


@pytest.mark.skipif(bool(why_missing()), reason=why_missing())
def test_an_event_names_a_default_route_nic_that_does_not_exist(
    cluster_with_gated_pod: KubernetesCluster,
) -> None:
    cluster = cluster_with_gated_pod
    cluster.set_coordinator(podDefaultRouteNIC="net9")
    wait_for_agent_settings(
        cluster, lambda _, settings: settings.get("podDefaultRouteNIC") == "net9"
    )
    cluster.apply(macvlan("own", "green"))
    with Multus(cluster, NODE):
        networks = {
            DEFAULT_NETWORK_ANNOTATION: f"{SHOP_NAMESPACE}/own",
            NETWORKS_ANNOTATION: f"{SHOP_NAMESPACE}/own",
        }
        cluster.apply(pod("alpha", networks, node=NODE))

        cluster.until(lambda: "net9" in cluster.events("alpha"), "the event")
        assert "podDefaultRouteNIC: net9 don't exist in pod" in cluster.events("alpha")

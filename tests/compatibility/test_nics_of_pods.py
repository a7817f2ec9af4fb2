"""Spiderpool's test cases about the NIC through which a packet leaves a Pod.

Ids such as C00011 are those of docs/contributing/compatibility.md. ``pod.add`` runs the ADD of the
coordinator for a NIC, by default eth0.
"""

from __future__ import annotations

import pytest

from tests.nodeagent.coordinator.test_engine_final_states import COORDINATOR_CONF
from tests.support.network_harness import NetworkHarness, NetworkNode, NetworkPod

pytestmark = pytest.mark.netns

# Destinations of packets: IPv4, IPv6
CLUSTER_IPS = ("10.96.0.10", "fd00:96::10")
OUTSIDE = ("198.51.100.2", "fd00:99::2")
NEIGHBOURS_ON_NET1 = ("10.7.0.9", "fd00:7::9")


def nics_to(pod: NetworkPod, *destinations: str) -> set[str]:
    nics = set()
    for destination in destinations:
        words = pod.inside.ip("route", "get", destination).split()
        nics.add(words[words.index("dev") + 1])
    return nics


@pytest.fixture(params=["underlay", "overlay"])
def pod_with_two_nics(
    request: pytest.FixtureRequest, network: NetworkHarness, network_node: NetworkNode
) -> NetworkPod:
    """A Pod with eth0 and net1; the coordinator has not yet been called for net1.

    Underlay: eth0 is a macvlan NIC after the coordinator's ADD. Overlay: eth0 is a NIC of Calico.
    """
    pod = network.pod(network_node)
    if request.param == "underlay":
        pod.macvlan("eth0", "10.6.0.101/24", "fd00:6::101/64")
        pod.add(**COORDINATOR_CONF)
    else:
        pod.calico("10.244.1.5", "fd00:244::5")
    pod.macvlan("net1", "10.7.0.101/24", "fd00:7::101/64")
    return pod


def test_the_default_route_stays_on_the_first_nic_by_default(pod_with_two_nics: NetworkPod) -> None:
    """C00011, C00012."""
    pod_with_two_nics.add("net1", **COORDINATOR_CONF)

    assert nics_to(pod_with_two_nics, *OUTSIDE) == {"eth0"}
    assert nics_to(pod_with_two_nics, *NEIGHBOURS_ON_NET1) == {"net1"}
    assert nics_to(pod_with_two_nics, *CLUSTER_IPS) <= {"eth0", "veth0"}
    assert nics_to(pod_with_two_nics, pod_with_two_nics.node.addresses[0]) <= {"eth0", "veth0"}


def test_a_default_route_on_net1_does_not_change_the_nic_of_cluster_ips(
    pod_with_two_nics: NetworkPod,
) -> None:
    """C00005, C00006, C00020, A00012."""
    pod_with_two_nics.add("net1", podDefaultRouteNic="net1", **COORDINATOR_CONF)

    assert nics_to(pod_with_two_nics, *OUTSIDE) == {"net1"}
    assert nics_to(pod_with_two_nics, *NEIGHBOURS_ON_NET1) == {"net1"}
    assert nics_to(pod_with_two_nics, *CLUSTER_IPS) <= {"eth0", "veth0"}


@pytest.mark.parametrize("name", ["k3j9x", "x-1", "fifteen-letters"])
def test_a_nic_may_have_any_name(
    network_pod: NetworkPod, network_node: NetworkNode, name: str
) -> None:
    """C00015."""
    network_pod.add(**COORDINATOR_CONF)
    network_pod.macvlan(name, "10.7.0.101/24", "fd00:7::101/64")

    network_pod.add(name, **COORDINATOR_CONF)

    assert f"{name}@" in network_pod.inside.ip("-o", "link")
    assert network_pod.check(name) == []
    assert nics_to(network_pod, *NEIGHBOURS_ON_NET1) == {name}


def test_three_nics_work_with_strict_reverse_path_filtering(
    network: NetworkHarness, network_pod: NetworkPod, network_node: NetworkNode
) -> None:
    """C00021."""
    pod_of_n2 = network.pod(network.node("n2"))
    pod_of_n2.macvlan("eth0", "10.6.0.102/24", "fd00:6::102/64")
    pod_of_n2.add(podRPFilter=1, **COORDINATOR_CONF)
    network_pod.add(podRPFilter=1, **COORDINATOR_CONF)
    for number, nic in enumerate(("net1", "net2"), 1):
        network_pod.macvlan(nic, f"10.7.0.{100 + number}/24", f"fd00:7::{100 + number}/64")
        network_pod.add(nic, podRPFilter=1, **COORDINATOR_CONF)

    assert network_pod.inside.run("sysctl", "-n", "net.ipv4.conf.all.rp_filter").strip() == "1"
    for address in ("10.6.0.101", "10.7.0.101", "10.7.0.102", "fd00:6::101", "fd00:7::102"):
        assert pod_of_n2.pings(address), address

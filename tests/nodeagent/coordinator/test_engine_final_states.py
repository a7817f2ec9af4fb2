"""After an ADD the rules, routes and neighbours in the kernel are those of the documentation.

See docs/reference/coordinator.md, "Tuning of routes". Table 100 of a Pod is for replies (underlay)
or for eth0 (overlay). Each further NIC has a table from 101 on. Table 500 of the node has the
routes to Pods. Before an ADD, a further NIC has a default route with metric 100 (IPv6: 2048).

``network_pod`` is a Pod with a macvlan eth0 (10.6.0.101, fd00:6::101) that is not set up yet.
``network_node`` is its node (10.6.0.11, fd00:6::11).
"""

from __future__ import annotations

from typing import Any, Final

import pytest

from nodeagent.netlink.namespaces import read_sysctl
from ops.lab.namespaces import NamedNamespace
from tests.support.network_harness import SERVICE_CIDRS, NetworkHarness, NetworkNode, NetworkPod

pytestmark = pytest.mark.netns

COORDINATOR_CONF: Final[dict[str, Any]] = {
    "overlayPodCIDR": ["10.244.0.0/16"],
    "serviceCIDR": list(SERVICE_CIDRS),
    "hijackCIDR": ["169.254.0.0/16"],
}
HIJACKED_NETWORKS: Final = ("10.96.0.0/16", "10.244.0.0/16", "169.254.0.0/16")
"""The IPv4 networks of ``COORDINATOR_CONF``."""


def hijack_routes(link: str, source: str) -> set[str]:
    return {f"{network} via 10.6.0.11 dev {link} src {source}" for network in HIJACKED_NETWORKS}


def rules(namespace: NamedNamespace, family: str = "-4") -> list[str]:
    """The rules that the kernel did not create."""
    lines = [" ".join(line.split()) for line in namespace.ip(family, "rule").splitlines()]
    return [line for line in lines if not line.startswith(("0:", "32766:", "32767:"))]


def routes(namespace: NamedNamespace, table: str, family: str = "-4") -> set[str]:
    """The routes of a table, without link-local routes and without default attributes."""
    # The command fails for a table that never had a route.
    lines = namespace.attempt("ip", family, "route", "show", "table", table).stdout.splitlines()
    plain = {line.replace("metric 1024", "").replace("pref medium", "") for line in lines}
    return {" ".join(line.split()) for line in plain if not line.startswith("fe80::/64")}


def test_one_underlay_nic_gets_the_documented_routes(
    network_pod: NetworkPod, network_node: NetworkNode
) -> None:
    network_pod.add(**COORDINATOR_CONF)
    assert rules(network_pod.inside) == ["1000: from all fwmark 0x1 lookup 100"]
    assert routes(network_pod.inside, "main") == {
        "default via 10.6.0.1 dev eth0",
        "10.6.0.0/24 dev eth0 proto kernel scope link src 10.6.0.101",
        "10.6.0.11 dev veth0 scope link src 10.6.0.101",
        *hijack_routes("veth0", "10.6.0.101"),
    }
    assert routes(network_pod.inside, "100") == {"default via 10.6.0.11 dev veth0 src 10.6.0.101"}
    assert routes(network_pod.inside, "101") == {"10.6.0.11 dev veth0 scope link src 10.6.0.101"}
    assert rules(network_node.inside) == ["1000: from all lookup 500"]
    assert routes(network_node.inside, "500") == {
        f"10.6.0.101 dev {network_pod.host_veth_name} scope link"
    }


def test_one_underlay_nic_gets_the_documented_ipv6_routes(
    network_pod: NetworkPod, network_node: NetworkNode
) -> None:
    network_pod.add(**COORDINATOR_CONF)
    assert rules(network_pod.inside, "-6") == ["1000: from all fwmark 0x1 lookup 100"]
    assert routes(network_pod.inside, "main", "-6") == {
        "default via fd00:6::1 dev eth0",
        "fd00:6::/64 dev eth0 proto kernel metric 256",
        "fd00:6::11 dev veth0",
        "fd00:96::/112 via fd00:6::11 dev veth0",
    }
    assert routes(network_pod.inside, "100", "-6") == {"default via fd00:6::11 dev veth0"}
    assert routes(network_node.inside, "500", "-6") == {
        f"fd00:6::101 dev {network_pod.host_veth_name}"
    }


def test_neighbours_are_permanent_on_both_sides(
    network_pod: NetworkPod, network_node: NetworkNode
) -> None:
    network_pod.add(**COORDINATOR_CONF)
    pod_veth = mac_of(network_pod.inside, "veth0")
    host_veth = mac_of(network_node.inside, network_pod.host_veth_name)
    assert pod_veth != host_veth
    for address in ("10.6.0.101", "fd00:6::101"):
        assert (
            f"{address} dev {network_pod.host_veth_name} lladdr {pod_veth} PERMANENT"
            in neighbours_of(network_node.inside)
        )
    for address in network_node.addresses:
        entry = f"{address} dev veth0 lladdr {host_veth} PERMANENT"
        assert entry in neighbours_of(network_pod.inside)


def test_two_underlay_nics_get_the_documented_routes(
    network_pod: NetworkPod, network_node: NetworkNode
) -> None:
    network_pod.add(**COORDINATOR_CONF)
    network_pod.macvlan("net1", "10.7.0.101/24")
    network_pod.add("net1", **COORDINATOR_CONF)
    assert rules(network_pod.inside) == [
        "999: from 10.7.0.101 lookup 101",
        "1000: from all fwmark 0x1 lookup 100",
    ]
    main = routes(network_pod.inside, "main")
    assert "10.7.0.0/24 dev net1 proto kernel scope link src 10.7.0.101" in main
    assert [line for line in main if line.startswith("default")] == [
        "default via 10.6.0.1 dev eth0"
    ]
    assert routes(network_pod.inside, "101") == {
        "default via 10.7.0.1 dev net1",
        "10.7.0.0/24 dev net1 scope link src 10.7.0.101",
        "10.6.0.11 dev veth0 scope link src 10.6.0.101",
        *hijack_routes("veth0", "10.6.0.101"),
    }
    assert routes(network_node.inside, "500") == {
        f"10.6.0.101 dev {network_pod.host_veth_name} scope link",
        f"10.7.0.101 dev {network_pod.host_veth_name} scope link",
    }


def test_the_second_underlay_nic_can_get_the_default_route(network_pod: NetworkPod) -> None:
    network_pod.add(**COORDINATOR_CONF)
    network_pod.macvlan("net1", "10.7.0.101/24", "fd00:7::101/64")
    network_pod.add("net1", podDefaultRouteNic="net1", **COORDINATOR_CONF)
    assert rules(network_pod.inside) == [
        "999: from 10.6.0.101 lookup 101",
        "1000: from all fwmark 0x1 lookup 100",
    ]
    main = routes(network_pod.inside, "main")
    assert [line for line in main if line.startswith("default")] == [
        "default via 10.7.0.1 dev net1 metric 100"
    ]
    assert "default via 10.6.0.1 dev eth0" in routes(network_pod.inside, "101")
    link_by_destination = {
        "8.8.8.8": "net1",
        "2001:db8::8": "net1",
        "10.6.0.9": "eth0",
        "fd00:6::9": "eth0",
        "10.7.0.9": "net1",
        "10.96.0.10": "veth0",
        "fd00:96::10": "veth0",
        "8.8.8.8 from 10.6.0.101": "eth0",
        "2001:db8::8 from fd00:6::101": "eth0",
    }
    for destination, link in link_by_destination.items():
        route = network_pod.inside.ip("route", "get", *destination.split())
        assert f"dev {link} " in route, destination


def test_three_underlay_nics_get_the_documented_routes(
    network_pod: NetworkPod, network_node: NetworkNode
) -> None:
    network_pod.add(**COORDINATOR_CONF)
    for number, interface in enumerate(("net1", "net2"), 101):
        network_pod.macvlan(interface, f"10.7.0.{number}/24", f"fd00:7::{number}/64")
        assert network_pod.add(interface, **COORDINATOR_CONF).table == number
    assert rules(network_pod.inside) == [
        "998: from 10.7.0.102 lookup 102",
        "999: from 10.7.0.101 lookup 101",
        "1000: from all fwmark 0x1 lookup 100",
    ]
    assert "default via 10.7.0.1 dev net2" in routes(network_pod.inside, "102")
    assert "default via fd00:7::1 dev net2" in {
        line.removesuffix(" metric 2048") for line in routes(network_pod.inside, "102", "-6")
    }
    main = routes(network_pod.inside, "main")
    assert [line for line in main if line.startswith("default")] == [
        "default via 10.6.0.1 dev eth0"
    ]
    assert [network_pod.check(nic) for nic in ("eth0", "net1", "net2")] == [[], [], []]
    # Each of the four links keeps its link-local route in main.
    lines = network_pod.inside.ip("-6", "route", "show", "table", "all").splitlines()
    link_local = [line for line in lines if line.startswith("fe80::/64")]
    assert len(link_local) == 4
    assert not any("table" in line for line in link_local)


def test_a_second_nic_of_an_overlay_pod_gets_the_documented_routes(
    network: NetworkHarness, network_node: NetworkNode
) -> None:
    pod = calico_pod(network, network_node)
    pod.add("net1", **COORDINATOR_CONF)
    assert rules(pod.inside) == [
        "32764: from 10.244.1.5 lookup 100",
        "32765: from 10.6.0.101 lookup 101",
    ]
    assert routes(pod.inside, "main") == {
        "default via 169.254.1.1 dev eth0",
        "169.254.1.1 dev eth0 scope link",
        "10.6.0.11 dev eth0 scope link src 10.244.1.5",
        "10.6.0.0/24 dev net1 proto kernel scope link src 10.6.0.101",
        *hijack_routes("eth0", "10.244.1.5"),
    }
    assert routes(pod.inside, "100") == {"default via 169.254.1.1 dev eth0"}
    assert routes(pod.inside, "101") == {
        "default via 10.6.0.1 dev net1",
        "10.6.0.0/24 dev net1 scope link src 10.6.0.101",
        "10.6.0.11 dev eth0 scope link src 10.244.1.5",
    }
    host_veth_name = f"cali{pod.container[:11]}"
    assert routes(network_node.inside, "500") == {f"10.6.0.101 dev {host_veth_name} scope link"}


def test_a_second_nic_of_an_overlay_pod_can_get_the_default_route(
    network: NetworkHarness, network_node: NetworkNode
) -> None:
    pod = calico_pod(network, network_node)
    pod.add("net1", podDefaultRouteNic="net1", **COORDINATOR_CONF)
    assert rules(pod.inside) == ["32765: from 10.244.1.5 lookup 101"]
    main = routes(pod.inside, "main")
    assert {line for line in main if line.startswith("default")} == {
        "default via 10.6.0.1 dev net1 metric 100"
    }
    assert hijack_routes("eth0", "10.244.1.5") < main
    assert routes(pod.inside, "101") == {
        "default via 169.254.1.1 dev eth0",
        "169.254.1.1 dev eth0 scope link",
        "10.6.0.11 dev eth0 scope link src 10.244.1.5",
        *hijack_routes("eth0", "10.244.1.5"),
    }
    assert routes(pod.inside, "100") == set()


def test_an_overlay_pod_gets_the_documented_routes_in_both_families(
    network: NetworkHarness, network_node: NetworkNode
) -> None:
    pod = calico_pod(
        network, network_node, eth0_ipv6="fd00:244::5", net1=("10.6.0.101/24", "fd00:6::101/64")
    )
    pod.add("net1", **COORDINATOR_CONF)
    assert rules(pod.inside, "-6") == [
        "32764: from fd00:244::5 lookup 100",
        "32765: from fd00:6::101 lookup 101",
    ]
    assert routes(pod.inside, "100", "-6") == {"default via fe80::ee dev eth0"}
    assert routes(pod.inside, "101", "-6") == {
        "default via fd00:6::1 dev net1",
        "fd00:6::/64 dev net1 metric 256",
        "fd00:6::11 dev eth0",
    }


def test_a_default_route_nic_that_is_added_later_gets_the_default_route(
    network: NetworkHarness, network_node: NetworkNode
) -> None:
    pod = calico_pod(network, network_node)
    pod.add("net1", "net2", podDefaultRouteNic="net2", **COORDINATOR_CONF)
    pod.macvlan("net2", "10.7.0.101/24")
    pod.add("net2", "net1", "net2", podDefaultRouteNic="net2", **COORDINATOR_CONF)
    defaults = {line for line in routes(pod.inside, "main") if line.startswith("default")}
    assert defaults == {"default via 10.7.0.1 dev net2 metric 100"}
    assert "32763: from 10.244.1.5 lookup 102" in rules(pod.inside)
    assert "default via 169.254.1.1 dev eth0" in routes(pod.inside, "102")


def test_no_rule_is_added_if_tuning_is_disabled(
    network: NetworkHarness, network_node: NetworkNode
) -> None:
    pod = calico_pod(network, network_node)
    pod.add("net1", tunePodRoutes=False, **COORDINATOR_CONF)
    assert rules(pod.inside) == []
    assert "default via 10.6.0.1 dev net1 metric 100" in routes(pod.inside, "main")


def test_policy_routes_are_in_main_only_for_the_first_underlay_nic(
    network_pod: NetworkPod, network: NetworkHarness, network_node: NetworkNode
) -> None:
    conf: dict[str, Any] = {"policyRoutes": [{"dst": "10.9.0.7", "gw": "10.6.0.254"}]}
    network_pod.add(**conf)
    assert "10.9.0.7 via 10.6.0.254 dev eth0" in routes(network_pod.inside, "main")
    other = calico_pod(network, network_node, net1=("10.6.0.102/24",))
    other.add("net1", **conf)
    assert "10.9.0.7 via 10.6.0.254 dev net1" in routes(other.inside, "101")
    assert "10.9.0.7 via 10.6.0.254 dev net1" not in routes(other.inside, "main")


def test_add_sets_options_of_links_and_sysctls(
    network_pod: NetworkPod, network_node: NetworkNode, network: NetworkHarness
) -> None:
    network_pod.inside.set_sysctl("net/ipv4/conf/all/rp_filter", "1")
    before = network_pod.inside.ip("link", "show", "dev", "eth0")
    network_pod.add(
        podMACPrefix="0a:1b",
        txQueueLen=77,
        vethMTU=1400,
        vethLinkAddress="169.254.100.1",
        hostRuleTable=200,
    )
    link = network_pod.inside.ip("link", "show", "dev", "eth0")
    assert "0a:1b:0a:06:00:65" in link
    assert "0a:1b" not in before
    assert "qlen 77" in link
    assert "mtu 1400" in network_pod.inside.ip("link", "show", "dev", "veth0")
    assert "mtu 1400" in network_node.inside.ip("link", "show", "dev", network_pod.host_veth_name)
    assert "169.254.100.1/32" in network_pod.inside.ip("address", "show", "dev", "veth0")
    assert rules(network_node.inside) == ["1000: from all lookup 200"]
    assert routes(network_node.inside, "200") == {
        f"10.6.0.101 dev {network_pod.host_veth_name} scope link"
    }
    assert "qlen 77" not in network_node.inside.ip("link", "show", "dev", "eth0")
    namespace = network.open_namespace(network_pod.inside)
    for name in ("all", "eth0", "veth0"):
        key = f"net/ipv4/conf/{name}/rp_filter"
        assert read_sysctl(network.executor, namespace, key) == "0"
    ra = f"net/ipv6/conf/{network_pod.host_veth_name}/accept_ra"
    assert read_sysctl(network.executor, network_node.namespace, ra) == "0"


def test_host_rp_filter_is_set_on_all_interfaces_of_the_node_and_stays(
    network_pod: NetworkPod, network_node: NetworkNode, network: NetworkHarness
) -> None:
    def filters() -> dict[str, str | None]:
        names = ("all", "default", "eth0", network_pod.host_veth_name)
        keys = {name: f"net/ipv4/conf/{name}/rp_filter" for name in names}
        namespace = network_node.namespace
        return {name: read_sysctl(network.executor, namespace, key) for name, key in keys.items()}

    before = filters()
    network_pod.add(podRPFilter=0)
    unchanged = before | {network_pod.host_veth_name: before["default"]}
    assert filters() == unchanged, "expected no change without hostRPFilter"
    network_pod.add(podRPFilter=0, hostRPFilter=2)
    assert set(filters().values()) == {"2"}
    assert network_pod.inside.run("sysctl", "-n", "net.ipv4.conf.all.rp_filter").strip() == "0"

    network_pod.add(podRPFilter=0, hostRPFilter=-1)
    assert set(filters().values()) == {"2"}, "expected no change by a negative number"


def test_an_ipv4_only_pod_gets_no_ipv6_object(
    network: NetworkHarness, network_node: NetworkNode
) -> None:
    pod = network.pod(network_node)
    pod.macvlan("eth0", "10.6.0.101/24")
    pod.add(**COORDINATOR_CONF)
    assert rules(pod.inside, "-6") == []
    assert routes(pod.inside, "main", "-6") == set()
    assert rules(network_node.inside, "-6") == []


def test_an_ipv6_only_pod_gets_ipv6_enabled(
    network: NetworkHarness, network_node: NetworkNode
) -> None:
    pod = network.pod(network_node)
    pod.macvlan("eth0", "fd00:6::101/64")
    # With this default, a new veth pair has IPv6 disabled.
    pod.inside.set_sysctl("net/ipv6/conf/default/disable_ipv6", "1")
    pod.add(vethLinkAddress="169.254.100.1", **COORDINATOR_CONF)
    assert rules(pod.inside) == []
    assert "fd00:6::11 dev veth0" in routes(pod.inside, "main", "-6")
    assert "169.254.100.1" not in pod.inside.ip("address", "show", "dev", "veth0")


def test_an_add_removes_stale_routes_and_neighbours_of_the_pods_addresses(
    network_pod: NetworkPod, network_node: NetworkNode
) -> None:
    network_node.inside.ip("link", "add", "stale", "type", "veth", "peer", "stale-2")
    network_node.inside.ip("link", "set", "stale", "up")
    mac = "02:00:00:00:00:99"
    for address in ("10.6.0.101", "fd00:6::101"):
        network_node.inside.ip("neigh", "add", address, "lladdr", mac, "dev", "stale")
        network_node.inside.ip("route", "add", address, "dev", "stale", "table", "500")
    network_pod.add(**COORDINATOR_CONF)
    assert "stale" not in neighbours_of(network_node.inside)
    assert routes(network_node.inside, "500") == {
        f"10.6.0.101 dev {network_pod.host_veth_name} scope link"
    }
    assert routes(network_node.inside, "500", "-6") == {
        f"fd00:6::101 dev {network_pod.host_veth_name}"
    }


def calico_pod(
    network: NetworkHarness,
    node: NetworkNode,
    *,
    eth0_ipv6: str = "",
    net1: tuple[str, ...] = ("10.6.0.101/24",),
) -> NetworkPod:
    """A Pod with an eth0 like Calico's, and a macvlan net1."""
    pod = network.pod(node)
    pod.calico("10.244.1.5", eth0_ipv6)
    pod.macvlan("net1", *net1)
    return pod


def mac_of(namespace: NamedNamespace, link: str) -> str:
    return namespace.ip("-brief", "link", "show", "dev", link).split()[2]


def neighbours_of(namespace: NamedNamespace) -> str:
    return namespace.ip("neigh") + namespace.ip("-6", "neigh")

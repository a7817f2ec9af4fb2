"""CHECK compares the kernel with the result of ADD, and names every difference.

The fixture ``network_pod`` is a Pod with a macvlan eth0 (10.6.0.101, fd00:6::101), and
``network_node`` is its node (10.6.0.11, fd00:6::11). The coordinator has not set up the Pod yet.
"""

from __future__ import annotations

from typing import Any, Final

import pytest

from core.domain.addresses.ip_address import Family
from nodeagent.netlink.session import NetlinkSession
from nodeagent.netlink.values import RoutingRule
from tests.support.network_harness import SERVICE_CIDRS, NetworkNode, NetworkPod

pytestmark = pytest.mark.netns

CONF: Final[dict[str, Any]] = {"serviceCIDR": list(SERVICE_CIDRS)}


def test_after_an_add_there_is_no_difference(network_pod: NetworkPod) -> None:
    network_pod.add(**CONF)
    assert network_pod.check() == []


def test_after_an_add_of_a_second_nic_both_nics_have_no_difference(
    network_pod: NetworkPod,
) -> None:
    network_pod.add(**CONF)
    network_pod.macvlan("net1", "10.7.0.101/24")
    network_pod.add("net1", podDefaultRouteNic="net1", **CONF)
    assert (network_pod.check(), network_pod.check("net1")) == ([], [])


@pytest.mark.parametrize(
    ("command", "text"),
    [
        (("route", "delete", "10.96.0.0/16"), "route 10.96.0.0/16 via 10.6.0.11"),
        (("-6", "route", "delete", "fd00:96::/112"), "route fd00:96::/112 via fd00:6::11"),
        (("route", "flush", "table", "100"), "table 100 is missing"),
        (("rule", "delete", "pref", "1000"), "rule 1000: fwmark 0x1 lookup 100 is missing"),
        (("neigh", "delete", "10.6.0.11", "dev", "veth0"), "neighbour 10.6.0.11 on link"),
    ],
)
def test_an_object_that_is_missing_in_the_pod_is_named(
    network_pod: NetworkPod, command: tuple[str, ...], text: str
) -> None:
    network_pod.add(**CONF)
    network_pod.inside.ip(*command)
    (difference,) = network_pod.check()
    assert text in difference


def test_objects_that_are_missing_on_the_node_are_named(
    network_pod: NetworkPod, network_node: NetworkNode
) -> None:
    network_pod.add(**CONF)
    network_node.inside.ip("route", "flush", "table", "500")
    network_node.inside.ip(
        "neigh",
        "replace",
        "10.6.0.101",
        "lladdr",
        "02:00:00:00:00:01",
        "dev",
        network_pod.host_veth_name,
    )
    route, neighbour = network_pod.check()
    assert "route 10.6.0.101/32" in route
    assert "neighbour 10.6.0.101" in neighbour


def test_a_default_route_that_must_not_exist_is_named(network_pod: NetworkPod) -> None:
    network_pod.add(**CONF)
    network_pod.macvlan("net1", "10.7.0.101/24")
    network_pod.add("net1", **CONF)
    network_pod.inside.ip(
        "route", "add", "default", "via", "10.7.0.1", "dev", "net1", "metric", "7"
    )
    (difference,) = network_pod.check("net1")
    assert "route 0.0.0.0/0 via 10.7.0.1" in difference
    assert "must not exist" in difference


def test_missing_reply_mark_rules_are_named(network_pod: NetworkPod) -> None:
    network_pod.add(**CONF)
    network_pod.inside.run("nft", "flush", "chain", "ip", "orbweaver", "output")
    assert network_pod.check() == [
        "IPv4 rule `output ct cmp meta` of nftables table orbweaver is missing"
    ]
    network_pod.inside.run("nft", "delete", "table", "ip6", "orbweaver")
    assert len(network_pod.check()) == 4, "one rule of IPv4, and the three rules of IPv6"


def test_a_missing_veth_pair_is_named(network_pod: NetworkPod, network_node: NetworkNode) -> None:
    network_pod.add(**CONF)
    network_node.inside.ip("link", "delete", network_pod.host_veth_name)
    (difference,) = network_pod.check()
    assert "namespace, NIC or veth are not" in difference


def test_rules_that_only_one_listing_lacks_are_not_a_difference(
    network_pod: NetworkPod, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel can skip rules in a listing while other programs add and remove rules."""
    network_pod.add(**CONF)
    rules = NetlinkSession.rules
    is_first = iter([True])

    def skip_rules_once(session: NetlinkSession, family: Family) -> list[RoutingRule]:
        listed = rules(session, family)
        return [] if next(is_first, False) else listed

    monkeypatch.setattr(NetlinkSession, "rules", skip_rules_once)
    assert network_pod.check() == []
    assert next(is_first, None) is None, "the rules were listed"


def test_a_nic_without_an_add_has_no_attachment_record(network_pod: NetworkPod) -> None:
    assert network_pod.check() == ["there is no attachment record of interface eth0"]

"""CHECK reports every difference between the kernel and the result of ADD.

``network_pod`` has 10.6.0.101 and fd00:6::101; ``network_node`` has 10.6.0.11 and fd00:6::11.
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


def test_check_finds_no_difference_after_an_add(network_pod: NetworkPod) -> None:
    network_pod.add(**CONF)
    assert network_pod.check() == []


def test_check_finds_no_difference_after_an_add_of_each_nic(
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
def test_check_reports_an_object_that_is_missing_in_the_pod(
    network_pod: NetworkPod, command: tuple[str, ...], text: str
) -> None:
    network_pod.add(**CONF)
    network_pod.inside.ip(*command)
    (difference,) = network_pod.check()
    assert text in difference


def test_check_reports_a_missing_route_and_a_changed_neighbour_of_the_node(
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


def test_check_reports_a_default_route_that_must_not_exist(network_pod: NetworkPod) -> None:
    network_pod.add(**CONF)
    network_pod.macvlan("net1", "10.7.0.101/24")
    network_pod.add("net1", **CONF)
    network_pod.inside.ip(
        "route", "add", "default", "via", "10.7.0.1", "dev", "net1", "metric", "7"
    )
    (difference,) = network_pod.check("net1")
    assert "route 0.0.0.0/0 via 10.7.0.1" in difference
    assert "must not exist" in difference


def test_check_reports_missing_reply_mark_rules(network_pod: NetworkPod) -> None:
    network_pod.add(**CONF)
    network_pod.inside.run("nft", "flush", "chain", "ip", "orbweaver", "output")
    assert network_pod.check() == [
        "IPv4 rule `output ct cmp meta` of nftables table orbweaver is missing"
    ]
    network_pod.inside.run("nft", "delete", "table", "ip6", "orbweaver")
    assert len(network_pod.check()) == 4, "expected one rule of IPv4 and three rules of IPv6"


def test_check_reports_a_missing_veth_pair(
    network_pod: NetworkPod, network_node: NetworkNode
) -> None:
    network_pod.add(**CONF)
    network_node.inside.ip("link", "delete", network_pod.host_veth_name)
    (difference,) = network_pod.check()
    assert "namespace, NIC or veth are not" in difference


def test_check_finds_no_difference_if_only_one_listing_omits_rules(
    network_pod: NetworkPod, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel can skip rules in a listing while another program changes rules."""
    network_pod.add(**CONF)
    rules = NetlinkSession.rules
    first_listing = iter([True])

    def skip_rules_once(session: NetlinkSession, family: Family) -> list[RoutingRule]:
        all_rules = rules(session, family)
        return [] if next(first_listing, False) else all_rules

    monkeypatch.setattr(NetlinkSession, "rules", skip_rules_once)
    assert network_pod.check() == []
    assert next(first_listing, None) is None, "expected CHECK to list the rules"


def test_check_reports_that_a_nic_has_no_attachment_record(network_pod: NetworkPod) -> None:
    assert network_pod.check() == ["there is no attachment record of interface eth0"]

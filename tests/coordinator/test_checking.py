"""CHECK compares the kernel with what ADD has set up, and names every difference."""

from __future__ import annotations

from typing import Any, Final

import pytest

from core.domain.addresses.ip_address import Family
from nodeagent.netlink.session import NetlinkSession
from nodeagent.netlink.values import RoutingRule
from tests.coordinator.world import SERVICES, NetworkNode, NetworkPod

pytestmark = pytest.mark.netns

SAID: Final[dict[str, Any]] = {"serviceCIDR": list(SERVICES)}


def test_what_was_just_set_up_is_right(pod: NetworkPod) -> None:
    pod.add(**SAID)
    assert pod.check() == []


def test_a_second_nic_leaves_the_first_right(pod: NetworkPod) -> None:
    pod.add(**SAID)
    pod.macvlan("net1", "10.7.0.101/24")
    pod.add("net1", podDefaultRouteNic="net1", **SAID)
    assert (pod.check(), pod.check("net1")) == ([], [])


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
def test_what_is_missing_in_the_pod_is_named(
    pod: NetworkPod, command: tuple[str, ...], text: str
) -> None:
    pod.add(**SAID)
    pod.inside.ip(*command)
    (difference,) = pod.check()
    assert text in difference


def test_what_is_missing_on_the_node_is_named(pod: NetworkPod, node: NetworkNode) -> None:
    pod.add(**SAID)
    node.inside.ip("route", "flush", "table", "500")
    node.inside.ip(
        "neigh", "replace", "10.6.0.101", "lladdr", "02:00:00:00:00:01", "dev", pod.host_veth_name
    )
    found = pod.check()
    assert len(found) == 2
    assert "route 10.6.0.101/32" in found[0]
    assert "neighbour 10.6.0.101" in found[1]


def test_a_default_route_that_came_back_is_named(pod: NetworkPod) -> None:
    pod.add(**SAID)
    pod.macvlan("net1", "10.7.0.101/24")
    pod.add("net1", **SAID)
    pod.inside.ip("route", "add", "default", "via", "10.7.0.1", "dev", "net1", "metric", "7")
    (difference,) = pod.check("net1")
    assert "route 0.0.0.0/0 via 10.7.0.1" in difference
    assert "is there" in difference


def test_missing_marks_are_named(pod: NetworkPod) -> None:
    pod.add(**SAID)
    pod.inside.run("nft", "flush", "chain", "ip", "orbweaver", "output")
    assert pod.check() == ["IPv4 rule `output ct cmp meta` of nftables table orbweaver"]
    pod.inside.run("nft", "delete", "table", "ip6", "orbweaver")
    assert len(pod.check()) == 4


def test_another_namespace_or_pair_is_named(pod: NetworkPod, node: NetworkNode) -> None:
    pod.add(**SAID)
    node.inside.ip("link", "delete", pod.host_veth_name)
    (difference,) = pod.check()
    assert "another namespace, NIC or veth" in difference


def test_what_one_listing_has_missed_is_no_difference(
    pod: NetworkPod, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rules that others add and remove meanwhile make the kernel skip some, and it says nothing."""
    pod.add(**SAID)
    rules = NetlinkSession.rules
    skipping = iter([True])

    def some(session: NetlinkSession, family: Family) -> list[RoutingRule]:
        found = rules(session, family)
        return [] if next(skipping, False) else found

    monkeypatch.setattr(NetlinkSession, "rules", some)
    assert pod.check() == []
    assert next(skipping, None) is None


def test_nothing_is_recorded_of_what_was_never_added(pod: NetworkPod) -> None:
    assert pod.check() == ["nothing is recorded of interface eth0"]
